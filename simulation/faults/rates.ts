/**
 * How often machines go away. Salad, a network of people's PCs, publishes two figures: a machine runs for 60 hours on average
 * before it is interrupted, and 1.1 of 100 agents an hour have their work moved elsewhere for another reason. Those are the base
 * rates here. A day of twelve machines would then see five interruptions, so each seed speeds both up by one of `speedUps`: from a
 * machine that goes away every five hours to one that does so every half an hour. That is stated as events per machine and
 * simulated hour, and holds for five machines as for two hundred.
 */
export const interruptionsPerMachineHour = 1 / 60
export const reallocationsPerMachineHour = 1.1 / 100
export const speedUps = [12, 40, 120] as const

/** What is rarer than an interruption: a disk that is full, a clock that is set, a way on which messages get lost. */
export const troublesPerMachineHour = interruptionsPerMachineHour / 2

/** Hours between two of the same kind that strike the market itself, or many machines at once. */
export const hoursBetweenMarketFaults = [2, 6, 20] as const
