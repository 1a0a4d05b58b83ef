import { Health } from '@orbyte/protocol'
import type { AgentOptions } from '../agent-config.ts'
import type { AgentStatus } from '../agent-status.ts'
import type { Executor } from '../executors/executor.ts'
import { isUnwatched, rehearsalText, type Rehearsed, remedyOf, unwatched } from '../executors/rehearsal.ts'
import { Devices } from '../gpus/devices.ts'
import type { DetectedDevice } from '../gpus/gpu-detector.ts'
import { loadIdentity } from '../identity.ts'
import type { Outside } from '../outside.ts'

export type DoctorCheck = {
  readonly name: string
  /** "note": it works, and could do better. */
  readonly state: 'ok' | 'note' | 'problem'
  /** What was found. */
  readonly message: string
  /** What to do about it. */
  readonly remedy: string | null
}

export type DoctorOptions = {
  readonly options: Pick<AgentOptions, 'server' | 'token' | 'dataPath'>
  readonly outside: Outside
  readonly nodeVersion: string
  readonly fetch: typeof fetch
  /** Null: no agent runs here. */
  readonly runningAgent: () => Promise<Pick<AgentStatus, 'connected' | 'devices'> | null>
  readonly signal: AbortSignal
}

const diskBytesMin = 2 * 2 ** 30

/** Everything that an agent needs, looked at one by one. */
export async function examine(doctor: DoctorOptions): Promise<DoctorCheck[]> {
  const basics = [checkNode(doctor.nodeVersion), await checkDataFolder(doctor), await checkDisk(doctor)]
  const running = await doctor.runningAgent().catch(() => null)
  const market = [await checkServer(doctor), await checkEnrolment(doctor), checkAgent(running)]
  const devices = await findDevices(doctor)
  return [...basics, ...market, checkGpus(devices, running), ...(await checkExecutors(doctor, devices.all(), running))]
}

/** Nothing is kept of it: the fingerprint names only devices that are asked for. */
async function findDevices({ outside }: DoctorOptions): Promise<Devices> {
  const devices = new Devices({ detectors: outside.detectors('doctor'), log: outside.log })
  await devices.refresh()
  return devices
}

function checkNode(version: string): DoctorCheck {
  const name = 'Node.js'
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major > 20 || (major === 20 && minor >= 19)) return ok(name, version)
  return problem(name, `${version} is too old`, 'Install Node.js 20.19 or newer: https://nodejs.org')
}

async function checkDataFolder({ options, outside }: DoctorOptions): Promise<DoctorCheck> {
  const name = 'data folder'
  try {
    await outside.storage.write('doctor.txt', 'written by orbyte agent doctor', { durable: true })
    await outside.storage.remove('doctor.txt')
    return ok(name, options.dataPath)
  } catch (error) {
    return problem(name, textOf(error), 'Make it writable for you, or choose another with --data FOLDER')
  }
}

async function checkDisk({ outside }: DoctorOptions): Promise<DoctorCheck> {
  const name = 'disk space'
  const freeBytes = await outside.machine.diskFreeBytes().catch(() => null)
  if (freeBytes === null) return ok(name, 'not known')
  const free = `${(freeBytes / 2 ** 30).toFixed(1)} GiB free`
  if (freeBytes >= diskBytesMin) return ok(name, free)
  return problem(
    name,
    free,
    'Models and engines need 2 GiB at least: free some, or choose another disk with --data FOLDER',
  )
}

async function checkServer({ options, fetch, signal }: DoctorOptions): Promise<DoctorCheck> {
  const name = 'market'
  try {
    const answer = await fetch(`${options.server}/api/health`, { signal })
    const health = Health.safeParse(await answer.json().catch(() => null))
    if (!health.success) {
      return problem(name, `${options.server} answers, but is no Orbyte market`, 'Give its address with --server URL')
    }
    return ok(name, `${options.server}, version ${health.data.version}`)
  } catch (error) {
    const remedy = 'Check the address (--server URL), your network and its proxy'
    return problem(name, `${options.server} cannot be reached: ${textOf(error)}`, remedy)
  }
}

async function checkEnrolment({ options, outside }: DoctorOptions): Promise<DoctorCheck> {
  const name = 'enrolment'
  try {
    const isNew = (await outside.storage.read('identity.pem')) === null
    if (isNew && options.token === null) {
      const remedy = 'Make an agent token (orbyte tokens create NAME) and start the agent with --token TOKEN'
      return problem(name, 'this machine has no key yet, and no token was given', remedy)
    }
    if (isNew) return ok(name, 'a token is given; the machine gets its key at the first start')
    return ok(name, `key ${(await loadIdentity(outside)).fingerprint}`)
  } catch (error) {
    return problem(name, textOf(error), 'Look at identity.pem in the data folder')
  }
}

type RunningAgent = Awaited<ReturnType<DoctorOptions['runningAgent']>>

function checkAgent(running: RunningAgent): DoctorCheck {
  const name = 'agent'
  if (running === null) return ok(name, 'does not run at the moment')
  if (running.connected) return ok(name, 'runs, and is connected')
  return problem(name, 'runs, and is not connected', 'See why: orbyte agent status')
}

function checkGpus(devices: Devices, running: RunningAgent): DoctorCheck {
  const name = 'GPUs'
  const found = devices.all().map(({ model, vramMib }) => `${model} (${(vramMib / 1_024).toFixed(1)} GiB)`)
  const broken = devices.problems()
  if (broken.length > 0) return problem(name, [...found, ...broken].join(', '), 'Repair or reinstall the driver')
  if (found.length > 0) return ok(name, found.join(', '))
  // The agent that runs was started with flags that this command was not given.
  const offered = (running?.devices ?? []).map(({ model, vram_gb }) => `${model} (${vram_gb.toFixed(1)} GiB)`)
  if (offered.length > 0) return ok(name, `${offered.join(', ')}, by the agent that runs`)
  return problem(name, 'none was found', 'Install the driver of your GPU, or offer the CPU with --cpu')
}

async function checkExecutors(
  { outside }: DoctorOptions,
  devices: readonly DetectedDevice[],
  running: RunningAgent,
): Promise<DoctorCheck[]> {
  const all = outside.executors.map(async (executor) => {
    const name = `executor ${executor.name}`
    const found = await executor.check().catch((error: unknown) => ({ message: textOf(error), remedy: null }))
    if (found !== null) return [problem(name, found.message, found.remedy)]
    return [ok(name, executor.taskTypes.join(', ')), ...(await checkComputing(executor, devices, running))]
  })
  return (await Promise.all(all)).flat()
}

/** On each GPU, by trying it; what an agent that runs has seen is not tried beside what may run there now. */
async function checkComputing(
  executor: Executor,
  devices: readonly DetectedDevice[],
  running: RunningAgent,
): Promise<DoctorCheck[]> {
  const gpus = devices.filter(({ kind }) => kind === 'gpu' && executor.rehearse !== undefined)
  const all = gpus.map(async (device) => {
    const seen = running?.devices
      .find(({ uuid }) => uuid === device.uuid)
      ?.computes.find((one) => one.executor === executor.name)
    const rehearsal = seen?.rehearsal ?? (await executor.rehearse!(device, { again: true }))
    return computingChecks(device, { executor: executor.name, rehearsal })
  })
  return (await Promise.all(all)).flat()
}

function computingChecks({ uuid, model }: DetectedDevice, rehearsed: Rehearsed): DoctorCheck[] {
  const { rehearsal } = rehearsed
  const state = rehearsal.computesBy === null ? 'problem' : rehearsal.failures.length === 0 ? 'ok' : 'note'
  const computing: DoctorCheck = {
    name: model,
    state,
    message: rehearsalText(rehearsed),
    remedy: remedyOf(rehearsal),
  }
  return isUnwatched(uuid, rehearsal) ? [computing, { name: model, state: 'note', ...unwatched }] : [computing]
}

function ok(name: string, message: string): DoctorCheck {
  return { name, state: 'ok', message, remedy: null }
}

function problem(name: string, message: string, remedy: string | null): DoctorCheck {
  return { name, state: 'problem', message, remedy }
}

function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error ? `${error.message} (${error.cause.message})` : error.message
}
