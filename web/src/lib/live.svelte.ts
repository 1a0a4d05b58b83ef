import type { LiveSubject } from '@orbyte/protocol'
import type { LiveMessage } from '@orbyte/sdk'
import { client } from './client.ts'

/** How the live connection is, for whoever shows it. */
class Connection {
  status = $state(client.live?.state().status ?? 'idle')
  /** Several attempts have failed: the page says so. */
  isLost = $state(false)

  constructor() {
    client.live?.onState(({ status, failures }) => {
      this.status = status
      this.isLost = status === 'waiting' && failures > 1 ? true : status === 'open' ? false : this.isLost
    })
    addEventListener('online', () => client.live?.reconnect())
  }
}

export const connection = new Connection()

/** For an `$effect`: listens until the component is gone. */
export function listen(subject: LiveSubject, message: (message: LiveMessage) => void): () => void {
  return client.live?.watch(subject, { message }) ?? (() => {})
}
