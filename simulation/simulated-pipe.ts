import type { SeededRandom } from './seeded-random.ts'
import type { SimulatedClock } from './simulated-clock.ts'
import type { Mishap } from './simulated-network.ts'

/** A message, or the news that there are no more. */
export type Item = { readonly text: string } | { readonly closed: string }

/** One direction of a connection: what is put in arrives once and in order, unless something happens to it. */
export type Pipe = {
  put(item: Item): void
  /** Called for what arrives. */
  deliver(item: Item): void
  /** Nothing arrives for a while. */
  stall(forMs: number): void
  /** What was held up goes on, unless it still has to wait. */
  goOn(): void
  /** Nothing that is on its way arrives, nor what is put in from now on. */
  lose(): void
  /** Some of what was put in last never left. */
  loseTheLast(): void
  /** What is held up, in characters. */
  heldBytes(): number
}

type Parts = {
  readonly clock: SimulatedClock
  readonly random: SeededRandom
  latencyMs(): number
  isCut(): boolean
  /** What happens to the next message. */
  mishap(): Mishap | null
  deliver(item: Item): void
}

const stallMsMax = 30_000
const lateCopyMsMax = 20_000
/** A message that was to change places with the next one goes alone if none follows. */
const alonenessMsMax = 2_000

export function createPipe({ clock, random, latencyMs, isCut, mishap, deliver }: Parts): Pipe {
  /** What is on its way, each with when it is due. Only the first may arrive. */
  const queue: { readonly item: Item; readonly dueMs: number }[] = []
  let lastDueMs = 0
  let stalls = 0
  let isLost = false
  let behindTheNext: Item | null = null

  function arrive() {
    const first = queue[0]
    if (!first || first.dueMs > clock.nowMs() || isCut() || stalls > 0) return
    queue.shift()
    deliver(first.item)
    // What was held up for so long that its time has passed comes right after it.
    if (queue[0] && queue[0].dueMs < clock.nowMs()) clock.after(0, arrive)
  }

  function send(item: Item) {
    lastDueMs = Math.max(lastDueMs, clock.nowMs() + latencyMs())
    queue.push({ item, dueMs: lastDueMs })
    clock.after(lastDueMs - clock.nowMs(), arrive)
  }

  const goOn = () => void clock.after(latencyMs(), arrive)

  function stall(forMs: number) {
    stalls++
    clock.after(forMs, () => {
      stalls--
      goOn()
    })
  }

  function release() {
    const item = behindTheNext
    behindTheNext = null
    if (item && !isLost) send(item)
  }

  function put(item: Item) {
    if (isLost) return
    const happens = 'text' in item && !behindTheNext ? mishap() : null
    if (happens === 'dropped') return
    if (happens === 'reordered') {
      behindTheNext = item
      clock.after(alonenessMsMax, () => behindTheNext === item && release())
      return
    }
    if (happens === 'delayed') stall(random.integer(1_000, stallMsMax))
    send(item)
    release()
    if (happens === 'duplicated') clock.after(random.integer(0, lateCopyMsMax), () => !isLost && deliver(item))
  }

  return {
    put,
    deliver,
    stall,
    goOn,
    heldBytes: () =>
      queue.reduce((sum, { item, dueMs }) => sum + (dueMs < clock.nowMs() && 'text' in item ? item.text.length : 0), 0),
    lose() {
      isLost = true
      queue.length = 0
    },
    loseTheLast() {
      queue.length = random.integer(0, queue.length)
    },
  }
}
