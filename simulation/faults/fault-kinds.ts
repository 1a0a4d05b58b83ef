import { mishaps } from '../simulated-network.ts'

/** The machine goes away, or cannot be reached. */
export const interruptions = [
  'agent killed',
  'agent killed midway',
  'machine without power',
  'agent frozen',
  'machine asleep',
  'network cut',
  'connection dropped',
  'connection half open',
] as const
/** It is there, and something is wrong with it or with the way to it. */
export const troubles = [
  'clock set',
  'machine disk full',
  'network slow',
  'network lossy',
  'network one way',
  'connection overtaken',
] as const
export const marketTroubles = [
  'market killed',
  'market killed midway',
  'market stopped',
  'market crash before commit',
  'market crash after commit',
  'market commit in doubt',
  'market frozen',
  'market disk full',
  'market disk slow',
  'market disk errors',
  'network partition',
] as const
/** What becomes of messages on a lossy way, each counted by itself; and what an agent invents that was tampered with. */
export const messageFaults = [...mishaps.map((mishap) => `message ${mishap}` as const), 'message forged'] as const

export const faultKinds = [...interruptions, ...troubles, ...marketTroubles, ...messageFaults] as const
export type MachineFault = (typeof interruptions | typeof troubles)[number]
export type MarketFault = (typeof marketTroubles)[number]
export type FaultKind = (typeof faultKinds)[number]
