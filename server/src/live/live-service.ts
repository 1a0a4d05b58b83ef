import { Gpu, isTaskFinal, type LiveServerMessageWire, type LiveSubject, problem, Wallet } from '@orbyte/protocol'
import { z } from 'zod'
import type { Context } from '../context.ts'
import type { Reader } from '../db/database.ts'
import type { StoredEvent } from '../event-store.ts'
import { isProduce, viewEvent } from '../event-view.ts'
import type { GpuService } from '../gpus/gpu-service.ts'
import type { Principal } from '../http/route.ts'
import type { WalletService } from '../ledger/wallet-service.ts'
import type { TaskService } from '../tasks/task-service.ts'
import type { Feed, Outlet } from './feed.ts'
import { createLogFeed, type LogPage, type LogSource } from './log-feed.ts'
import { createStateFeed, type StateSource } from './state-feed.ts'

export type Services = { tasks: TaskService; gpus: GpuService; wallet: WalletService }
type Message = LiveServerMessageWire
/** What one subject says to its watcher; `send` adds the watcher's number. */
export type Watcher = {
  subject: LiveSubject
  after: number | undefined
  principal: Principal | null
  outlet: Outlet
  send(message: MessageWithoutId): void
  failed(error: unknown): void
}
export type MessageWithoutId = { [T in Message['type']]: Omit<Extract<Message, { type: T }>, 'id'> }[Message['type']]
type User = Principal & { readonly userId: string }

const pageOfEvents = 100
/** Looking through this much of the log takes some ten milliseconds. Who has missed more reads the lists again. */
const rangeOfEvents = 10_000
const taskEndings = ['task.completed', 'task.failed', 'task.cancelled']
const attemptEvents = /^(attempt|payment|dispute)\./
const marketPeriodMs = 1_000
const ownPeriodMs = 250

export type LiveService = ReturnType<typeof createLiveService>

/** Who may watch what, and from where each subject's news comes. */
export function createLiveService(context: Context, { tasks, gpus, wallet }: Services) {
  async function ofTask(taskId: string, watcher: Watcher, user: User): Promise<Feed> {
    const task = await context.database.read((reader) => tasks.visible(reader, taskId, user))
    const source: LogSource = {
      matches: (event) => event.task_id === taskId,
      isEnd: ({ type }) => taskEndings.includes(type),
      async read(reader, after) {
        const events = await context.events.ofTask(reader, { taskId, after, limit: pageOfEvents })
        return { events, upTo: events.at(-1)?.cursor ?? after, isLast: events.length < pageOfEvents }
      },
    }
    return logFeed(source, watcher, { after: watcher.after ?? 0, hasEnded: isTaskFinal(task.status) })
  }

  function ofUser(
    as: 'renter' | 'provider',
    watcher: Watcher,
    { userId, head }: { userId: string; head: number },
  ): Feed {
    const concerns = ({ user_id, provider_id, type }: StoredEvent) =>
      as === 'renter' ? user_id === userId && !isProduce(type) : provider_id === userId && attemptEvents.test(type)
    const source: LogSource = {
      matches: concerns,
      isEnd: () => false,
      read: (reader, after) => readRange(reader, { userId, as, after }, concerns),
    }
    return logFeed(source, watcher, { after: watcher.after ?? head, hasEnded: false })
  }

  async function readRange(
    reader: Reader,
    { userId, as, after }: { userId: string; as: 'renter' | 'provider'; after: number },
    concerns: (event: StoredEvent) => boolean,
  ): Promise<LogPage | null> {
    const head = await context.events.head(reader)
    if (after > head || head - after > rangeOfEvents) return null
    const events = await context.events.ofUser(reader, { userId, as, after, upTo: head })
    return { events: events.filter(concerns), upTo: head, isLast: true }
  }

  function logFeed(source: LogSource, watcher: Watcher, at: { after: number; hasEnded: boolean }): Feed {
    const { outlet, send, failed } = watcher
    return createLogFeed(context, {
      ...at,
      source,
      outlet,
      sink: {
        event: (event) => send({ type: 'event', event: viewEvent(event) }),
        missed: (cursor) => send({ type: 'missed', cursor }),
        done: () => send({ type: 'done' }),
        failed,
      },
    })
  }

  function ofGpus(ownerId: string | null, { outlet, send, failed }: Watcher): Feed {
    const { registry } = gpus
    const isWanted = (gpuId: string) => ownerId === null || registry.get(gpuId)?.ownerId === ownerId
    const source: StateSource = {
      initial: ownerId === null ? [] : registry.ofOwner(ownerId).map(({ id }) => id),
      periodMs: ownerId === null ? marketPeriodMs : ownPeriodMs,
      subscribe(changed) {
        const stopChanges = registry.onChange((gpu) => {
          if (ownerId === null || gpu.ownerId === ownerId) changed(gpu.id)
        })
        if (ownerId === null) return stopChanges
        const stopTelemetry = registry.onTelemetry(({ gpu: { id: gpuId } }) => {
          if (isWanted(gpuId)) changed(gpuId)
        })
        return () => {
          stopChanges()
          stopTelemetry()
        }
      },
      tell(names) {
        const found = names.map((name) => gpus.find(name)).filter((gpu) => gpu !== null)
        const removed = names.filter((name) => gpus.find(name) === null)
        send({ type: 'gpus', gpus: found.map((gpu) => z.encode(Gpu, gpu)), removed })
      },
    }
    return createStateFeed(context, { source, outlet, failed })
  }

  function ofWallet(user: User, { outlet, send, failed }: Watcher): Feed {
    const source: StateSource = {
      initial: ['wallet'],
      periodMs: ownPeriodMs,
      subscribe: (changed) => wallet.onChange(user.userId, () => changed('wallet')),
      tell: async () => send({ type: 'wallet', wallet: z.encode(Wallet, await wallet.get(user)) }),
    }
    return createStateFeed(context, { source, outlet, failed })
  }

  return {
    /** Makes what tells of the subject; nothing is told before its `start`. Throws where the watcher may not see it. */
    async open(watcher: Watcher): Promise<{ feed: Feed; head: number }> {
      const { subject, principal } = watcher
      const head = await context.database.read((reader) => context.events.head(reader))
      if (subject.name === 'market') return { feed: ofGpus(null, watcher), head }
      const user = userOf(principal)
      switch (subject.name) {
        case 'task':
          return { feed: await ofTask(subject.task_id, watcher, user), head }
        case 'tasks':
          return { feed: ofUser('renter', watcher, { ...user, head }), head }
        case 'attempts':
          return { feed: ofUser('provider', watcher, { ...user, head }), head }
        case 'gpus':
          return { feed: ofGpus(user.userId, watcher), head }
        case 'wallet':
          return { feed: ofWallet(user, watcher), head }
      }
    },
  }
}

function userOf(principal: Principal | null): User {
  if (principal === null)
    throw problem('unauthenticated', 'Only the subject "market" is for everybody. Send `authenticate` first.')
  const { userId } = principal
  if (userId === null) throw problem('forbidden', 'The operator’s token only opens administration. Log in as a user.')
  return { ...principal, userId }
}
