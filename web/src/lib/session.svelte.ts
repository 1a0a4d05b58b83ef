import type { api, OutputOf } from '@orbyte/protocol'
import { OrbyteError } from '@orbyte/sdk'
import { client } from './client.ts'

export type User = OutputOf<typeof api.auth.me>
type Wallet = OutputOf<typeof api.wallet.get>

/** Says to the next page load that there is probably a session, so that it asks for it; no more than that. */
const hint = 'orbyte.session'

/** Who is logged in, in this browser. `unknown` until the first answer. */
class Session {
  user = $state.raw<User | null>(null)
  wallet = $state.raw<Wallet | null>(null)
  status = $state<'unknown' | 'in' | 'out'>(localStorage.getItem(hint) ? 'unknown' : 'out')
  #stop: (() => void) | null = null

  /** Takes up the session of an earlier visit. Rejects where the market cannot be reached. */
  async resume() {
    if (this.status !== 'unknown') return
    if (await client.isLoggedIn()) await this.#enter()
    else this.#leave()
  }

  async logIn(email: string, password: string) {
    const { access_token } = await client.auth.token({ username: email, password, in_cookie: true })
    await client.setTokens({ access_token, refresh_token: null })
    await this.#enter()
  }

  async logOut() {
    await client.auth.logout().catch((error: unknown) => {
      if (!(error instanceof OrbyteError && error.status === 401)) throw error
    })
    this.#leave()
  }

  /** The session was ended elsewhere, or the account was closed. */
  forget() {
    this.#leave()
  }

  async reload() {
    this.user = await client.auth.me()
  }

  async #enter() {
    this.user = await client.auth.me()
    localStorage.setItem(hint, '1')
    this.status = 'in'
    this.#stop?.()
    this.#stop =
      client.live?.watch(
        { name: 'wallet' },
        {
          message: (message) => {
            if (message.type === 'wallet') this.wallet = message.wallet
          },
          failed: (error) => {
            if (error.code === 'unauthenticated') this.#leave()
          },
        },
      ) ?? null
  }

  #leave() {
    this.#stop?.()
    this.#stop = null
    localStorage.removeItem(hint)
    this.user = null
    this.wallet = null
    this.status = 'out'
    void client.setTokens(null)
  }
}

export const session = new Session()
