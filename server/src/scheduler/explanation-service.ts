import { type End, formatOrb, micros, problem } from '@orbyte/protocol'
import { type Context, isoFromMs } from '../context.ts'
import type { MarketGpu } from '../gpus/gpu-registry.ts'
import type { GpuService } from '../gpus/gpu-service.ts'
import { gpuStatus } from '../gpus/gpu-status.ts'
import type { Caller } from '../http/route.ts'
import { costOf } from '../payments/pricing.ts'
import type { StoredTask } from '../tasks/task-store.ts'
import { explainGpu } from './gpu-explanation.ts'
import type { KeptRoom } from './kept-rooms.ts'
import { countRejections, judgeFree, type Wanted } from './matching.ts'
import type { Relaxation } from './relaxation.ts'
import { relaxationSentence, relaxationsOf } from './relaxations.ts'
import { keptForWhom, keptFrom, viewRoom, whereRoomIsKept } from './room-explanation.ts'
import type { Scheduler } from './scheduler-service.ts'
import { type Best, bestOf, priceAt, rejectionCounts, type Survey, surveyGpus, whyNotNow } from './survey.ts'
import type { QueuedTask } from './task-queue.ts'

type Parts = { gpus: GpuService; scheduler: Scheduler }
export type ExplanationService = ReturnType<typeof createExplanationService>
type Reason = { code: string; message: string }

const offersShown = 20

/** Answers "what would fit?", "why is it waiting?" and "why does it not earn?" with what matching itself knows. */
export function createExplanationService(context: Context, { gpus, scheduler }: Parts) {
  const { registry } = gpus
  const { demand, rooms } = scheduler
  const { keptRoomsMax } = context.config.limits

  const survey = (wanted: Wanted): Survey => surveyGpus(wanted, scheduler.gpuIndex(), context.clock.now())
  const relaxed = (surveyed: Survey) => relaxationsOf(surveyed, survey)

  /** What holds for a task that wants this, waiting or not submitted yet. */
  function outlook(surveyed: Survey) {
    const { wanted, fits, free } = surveyed
    return {
      fitting: fits,
      free,
      rejections: rejectionCounts(surveyed),
      relaxations: relaxed(surveyed).map(viewRelaxation),
      expected_cost: expectedCost(wanted, bestOf(surveyed, 1)[0] ?? null),
    }
  }

  function expectedCost(wanted: Wanted, best: Best | null) {
    const typical = demand.typicalRun(wanted)
    if (!best) return { amount: null, basis: 'No GPU fits.' }
    const { gpu, price: bestPrice } = best
    const price = `${formatOrb(micros(bestPrice))} ORB an hour on ${placeOf(wanted, gpu)}`
    if (!typical) return { amount: null, basis: `${price}; nothing of this kind has run since the market was started.` }
    const basis = `${price}, for ${seconds(typical.ms)}: the middle of the last ${typical.tasks} that completed.`
    return { amount: costOf(bestPrice, typical.ms), basis }
  }

  /** `ahead`: how many tasks go first. */
  function expectedWait({ wanted, fits, free }: Survey, ahead: number) {
    const before = ahead === 1 ? '1 task goes' : `${ahead} tasks go`
    if (fits === 0) return { ms: null, basis: 'No GPU fits.' }
    const places = Math.floor(free / wanted.gpus)
    if (places > ahead) return { ms: 0, basis: `${free} of the ${fits} GPUs that fit are free, and ${before} first.` }
    const typical = demand.typicalRun(wanted)
    const all = `${fits} GPU${fits === 1 ? '' : 's'} could run it`
    if (!typical)
      return {
        ms: null,
        basis: `${all} and ${before} first; nothing of this kind has run since the market was started.`,
      }
    const ms = Math.round(((ahead + 1 - places) * typical.ms * wanted.gpus) / fits)
    return {
      ms,
      basis: `${all}, ${before} first, and such a task takes ${seconds(typical.ms)} (the middle of the last ${typical.tasks}).`,
    }
  }

  function waitForRoom({ expectedAtMs, latestAtMs, gpus }: KeptRoom) {
    const where = `${gpus.length} GPU${gpus.length === 1 ? ' is' : 's are'} kept for it`
    const most = `at the latest in ${seconds(Math.max(0, latestAtMs - context.clock.now()))}, if all of that takes as long as it may`
    const basis = `${where}, and what runs there is expected to end by then; ${most}.`
    return { ms: Math.max(0, expectedAtMs - context.clock.now()), basis }
  }

  /** Why a task is still waiting, in words that can be acted on. Null: it does not wait. */
  function waiting(task: Pick<StoredTask, 'id' | 'status'>): Reason | null {
    const queued = scheduler.queue.get(task.id)
    if (task.status !== 'pending') return null
    if (scheduler.pause.paused)
      return { code: 'market_paused', message: `The market is paused: ${scheduler.pause.reason ?? ''}` }
    if (!queued) return { code: 'offered', message: 'A GPU has been asked and is about to answer.' }
    return whyQueued(queued, survey(queued.wanted))
  }

  function whyQueued(queued: QueuedTask, surveyed: Survey): Reason {
    const { fits } = surveyed
    const room = rooms.roomFor(queued)
    if (room) return whereRoomIsKept(room, { rooms, isFirst: room.queued === queued })
    if (fits === 0) {
      const message = `${whyNothingFits(surveyed)} It waits for one until ${isoFromMs(queued.waitUntilMs)}. Cancel it and submit it anew to ask for less.`
      return { code: 'no_gpu_fits', message }
    }
    const [reason] = countRejections(whyNotNow(surveyed, (gpu) => keptFrom(queued, gpu, rooms)))
    if (!reason) return { code: 'matching', message: 'A GPU is free and will be asked at once.' }
    const message = `${fits} GPU${fits === 1 ? '' : 's'} would fit; of those ${reason.gpus}: ${reason.message}. ${whenItStarts(queued)}`
    return { code: reason.code, message }
  }

  function whenItStarts({ wanted }: QueuedTask): string {
    if (wanted.gpus === 1) return 'It starts when one is free.'
    const all = `It starts when ${wanted.gpus} of one machine are free`
    const afterMs = context.config.timing.keepRoomAfterMs
    return keptRoomsMax === 0 ? `${all}.` : `${all}; room for it is kept once it has waited for ${seconds(afterMs)}.`
  }

  /** With what would change it. */
  function whyNothingFits(surveyed: Survey): string {
    if (surveyed.gpus === 0) return 'There is no GPU in this market yet.'
    const reasons = rejectionCounts(surveyed).slice(0, 3)
    const counted = reasons.map(({ gpus: count, message }) => `${count}: ${message}`).join('; ')
    const all = surveyed.gpus === 1 ? 'The only GPU does not fit' : `None of the ${surveyed.gpus} GPUs fits`
    return `${all} (${counted}).${relaxationSentence(relaxed(surveyed))}`
  }

  return {
    survey,

    nothingFits(wanted: Wanted) {
      const surveyed = survey(wanted)
      const rejections = rejectionCounts(surveyed).map(({ code, message, gpus: count, retryable }) => {
        return { code, message, gpus: count, retryable }
      })
      const relax = surveyed.gpus === 0 ? 'Submit' : 'Relax that, or submit'
      const details = { rejections, relaxations: relaxed(surveyed).map(viewRelaxation).map(relaxationOnWire) }
      return problem('no_gpu_fits', `${whyNothingFits(surveyed)} ${relax} with "wait": true to wait for one.`, details)
    },

    /** For a task that is not submitted yet. */
    estimate(wanted: Wanted, renterId: string) {
      const surveyed = survey(wanted)
      const ahead = scheduler.queue.aheadOfNew(renterId)
      return {
        ...outlook(surveyed),
        offers: bestOf(surveyed, offersShown).map(({ gpu, price }) => viewOffer(gpu, price)),
        expected_wait: expectedWait(surveyed, ahead),
      }
    },

    waiting,

    /** `stored`, which its renter sees: where it stands, and each offer with what keeps it from running the task. */
    explainTask(stored: StoredTask, { end, limit }: { end: End | null; limit: number }) {
      const queued = scheduler.queue.get(stored.id)
      const wanted = queued?.wanted ?? scheduler.wantedOf(stored)
      const surveyed = survey(wanted)
      const ahead = queued ? scheduler.queue.aheadOf(queued) : null
      const fitting = bestOf(surveyed, limit).map(({ gpu, price }) => {
        const kept = () => queued && keptFrom(queued, gpu, rooms)
        const rejection = judgeFree(wanted, gpu, surveyed.nowMs) ?? kept() ?? null
        return { ...viewOffer(gpu, price), fits: true, rejection }
      })
      const room = queued ? rooms.roomFor(queued) : null
      const rejected = surveyed.rejected.flatMap(({ first, classes }) => {
        const alike = classes.flatMap(({ numbers }) => numbers.slice(0, limit))
        return alike.map((number) => {
          const offer = viewOffer(surveyed.index.gpu(number), priceAt(number, surveyed))
          return { ...offer, fits: false, rejection: first }
        })
      })
      const offers = [...fitting, ...rejected].slice(0, limit)
      return {
        task_id: stored.id,
        status: stored.status,
        ...standing(stored, end),
        ...outlook(surveyed),
        offers,
        ahead,
        expected_wait:
          ahead === null ? null : room?.queued === queued ? waitForRoom(room!) : expectedWait(surveyed, ahead),
        kept_room: room && viewRoom(room, rooms),
      }
    },

    /** Why a GPU does or does not earn: judged against what was asked for lately. */
    async explainGpu(caller: Pick<Caller, 'userId' | 'role'>, gpuId: string) {
      await gpus.assertOwner(caller, gpuId)
      const gpu = registry.get(gpuId)
      if (!gpu) throw problem('not_found', `${gpuId} was deleted.`)
      const room = rooms.roomOn(gpuId)
      const kept = room && gpuStatus(gpu) === 'available' ? keptForWhom(room) : null
      return explainGpu(gpu, { all: registry.all(), demands: demand.all(), nowMs: context.clock.now(), kept })
    },
  }

  function standing(stored: StoredTask, end: End | null): Reason {
    const why = waiting(stored)
    if (why) return why
    if (end) return { code: end.code, message: end.message }
    return { code: 'running', message: 'A GPU has taken it.' }
  }
}

/** What the task would have of it, for a person. */
function placeOf({ gpus, part }: Wanted, { name }: MarketGpu): string {
  if (gpus > 1) return `${gpus} GPUs like ${name} of its machine`
  return part === null ? name : `a share of ${name}`
}

function viewOffer(gpu: MarketGpu, price: number) {
  return {
    gpu_id: gpu.id,
    name: gpu.name,
    model: gpu.model,
    kind: gpu.kind,
    vram_gb: gpu.vramGb,
    price_per_hour: micros(price),
    region: gpu.region,
    status: gpuStatus(gpu),
  }
}

function viewRelaxation({ requirements, maxPriceMicrosPerHour, message, gpus, free }: Relaxation) {
  return { message, requirements, max_price_per_hour: maxPriceMicrosPerHour, gpus, free }
}

/** In a problem's details there is no schema that would write amounts. */
function relaxationOnWire(relaxation: ReturnType<typeof viewRelaxation>) {
  const { max_price_per_hour: price } = relaxation
  return { ...relaxation, max_price_per_hour: price === null ? null : formatOrb(price) }
}

const seconds = (ms: number) => (ms < 1_000 ? `${ms} ms` : `${(ms / 1_000).toFixed(ms < 10_000 ? 1 : 0)} s`)
