import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { table } from './figures.ts'

/** As V8 writes it. */
export type CpuProfile = {
  nodes: { id: number; children?: number[]; callFrame: { functionName: string; url: string; lineNumber: number } }[]
  samples: number[]
  timeDeltas: number[]
}
type CallFrame = CpuProfile['nodes'][number]['callFrame']

/** What the time of a program went into, as a table: the most first. Code that is not JavaScript counts to what called it. */
export function profileTable(profile: CpuProfile): string {
  const frames = new Map(profile.nodes.map(({ id, callFrame }) => [id, callFrame]))
  const parents = new Map(
    profile.nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id] as const)),
  )
  const sources = new Map<string, readonly string[]>()
  const spent = new Map<string, number>()
  let busyUs = 0
  for (const [index, id] of profile.samples.entries()) {
    const frame = frames.get(id)!
    if (frame.functionName === '(idle)') continue
    const us = profile.timeDeltas[index]!
    const isNative = frame.url === '' && !frame.functionName.startsWith('(')
    const area = areaOf(isNative ? frames.get(parents.get(id)!)! : frame, sources)
    spent.set(area, (spent.get(area) ?? 0) + us)
    busyUs += us
  }
  const rows = [...spent]
    .sort((a, b) => b[1] - a[1])
    .map(([area, us]) => [area, `${((100 * us) / busyUs).toFixed(1)} %`])
  return table([['where the time goes', 'share'], ...rows])
}

const areas: readonly (readonly [area: string, pattern: RegExp])[] = [
  ['SQLite', /db\/sqlite-connection|photostructure/],
  ['commits and savepoints', /server\/src\/db\//],
  ['ledger and payments', /server\/src\/(ledger|payments)|protocol\/src\/(receipts|money)|internal\/crypto/],
  [
    'matching and queue',
    /scheduler\/(match|task-queue|fair-share|renter-shares|gpu-|free-|placement|packing|submission)|gpus\/gpu-status/,
  ],
  ['attempts and tasks', /server\/src\/(scheduler|tasks|gpus|speeds|audits|models)/],
  ['events', /server\/src\/(event-|live)/],
  ['agents’ dialogue', /server\/src\/agents/],
  ['WebSocket', /node_modules\/ws\//],
  ['checking and encoding', /node_modules\/zod|protocol\/src|secure-json-parse/],
  ['HTTP', /fastify|find-my-way|light-my-request|server\/src\/(http|users)|_http|internal\/http|node_modules/],
  ['reading and writing sockets', /node:net|stream|node:events|node:buffer|internal\/buffer/],
  ['promises, timers and ticks', /task_queues|timers|async_hooks|internal\/process/],
]

function areaOf({ functionName, url, lineNumber }: CallFrame, sources: Map<string, readonly string[]>): string {
  if (functionName === '(garbage collector)') return 'garbage collection'
  const file = sourceOf(url, lineNumber, sources)
  return areas.find(([, pattern]) => pattern.test(file))?.[0] ?? 'other'
}

/** In a bundle, the file that a line comes from: esbuild names it in a comment before its code. */
function sourceOf(url: string, line: number, sources: Map<string, readonly string[]>): string {
  if (!url.includes('.orbyte-bench-')) return url
  if (!sources.has(url)) {
    let current = ''
    const files = readFileSync(fileURLToPath(url), 'utf8')
      .split('\n')
      .map((text) => (current = /^\/\/ (\S+\.ts)$/.exec(text)?.[1] ?? current))
    sources.set(url, files)
  }
  return sources.get(url)![line] ?? url
}
