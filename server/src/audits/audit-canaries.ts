import type { GivenTaskInput, TaskType } from '@orbyte/protocol'

/** From 0 to 1. */
export type Chance = () => number

const people =
  'a sailor|my grandmother|two brothers|the mayor|a young doctor|an old teacher|the baker|a shy robot|our neighbour|a tired detective|the queen|a lost dog|three engineers|a street musician'.split(
    '|',
  )
const places =
  'a lighthouse|the night train|a small village|the market square|an empty museum|the harbour|a mountain hut|the library|a garden in winter|the old factory|a hospital corridor|the desert|a kitchen|the last bus stop'.split(
    '|',
  )
const things =
  'a letter|a broken clock|an umbrella|a map|a silver key|a loaf of bread|a photograph|a violin|a suitcase|a red scarf|an old radio|a recipe|a secret|a bicycle'.split(
    '|',
  )
const topics =
  'solar panels|sourdough|chess openings|tax returns|sea turtles|black holes|houseplants|learning to swim|the French Revolution|espresso|second-hand cars|insomnia|public transport|beekeeping|password managers|marathons'.split(
    '|',
  )
const moods = 'funny|sad|short|mysterious|hopeful|formal|friendly|dry|dramatic|simple'.split('|')
const objects = 'cat|dog|panda|owl|robot|circle|square|star|heart|fish|tree|house'.split('|')
const colours = 'red|blue|green|yellow|purple|orange|pink|brown|black|white|grey|cyan'.split('|')

/** A task that somebody might have asked for, never the same twice. Null: there are none of this type. */
export function canaryInput(taskType: TaskType, chance: Chance): GivenTaskInput | null {
  switch (taskType) {
    case 'text_generation':
      return textInput(chance)
    case 'image_generation':
      return imageInput(chance)
    case 'embedding':
      return embeddingInput(chance)
    case 'model_training':
    case 'container':
    case 'other':
      return null
  }
}

function textInput(chance: Chance): GivenTaskInput<'text_generation'> {
  const settings = {
    max_tokens: pick(chance, [32, 40, 50, 64, 80, 100, 120, 128, 160, 200, 256]),
    seed: seed(chance),
    ...(chance() < 0.6 && { temperature: pick(chance, [0, 0.2, 0.5, 0.7, 0.8, 0.9, 1]) }),
    ...(chance() < 0.25 && { top_p: pick(chance, [0.8, 0.9, 0.95]) }),
  }
  const text = sentence(chance)
  if (chance() < 0.5) return { prompt: text, ...settings }
  const system = { role: 'system' as const, content: `You are a ${pick(chance, moods)} assistant.` }
  const messages = [...(chance() < 0.4 ? [system] : []), { role: 'user' as const, content: text }]
  return { messages, ...settings }
}

function imageInput(chance: Chance): GivenTaskInput<'image_generation'> {
  const subject = `${pick(chance, colours)} ${pick(chance, objects)}`
  const prompt = pick(chance, [
    `a ${subject} on a ${pick(chance, colours)} background`,
    `${subject}, ${pick(chance, moods)}, in ${pick(chance, places)}`,
    `a picture of a ${subject}`,
    `${subject} with ${pick(chance, things)}`,
  ])
  const size = chance() < 0.3 ? { upscale: false } : {}
  const steps = chance() < 0.5 ? { steps: pick(chance, [10, 15, 20, 25, 30]) } : {}
  return {
    prompt,
    seed: seed(chance),
    ...steps,
    ...size,
    ...(chance() < 0.2 && { guidance: pick(chance, [1.5, 3, 4]) }),
  }
}

function embeddingInput(chance: Chance): GivenTaskInput<'embedding'> {
  const count = 1 + Math.floor(chance() ** 2 * 12)
  return { input: Array.from({ length: count }, () => sentence(chance)) }
}

function sentence(chance: Chance): string {
  const [who, where, what, topic, mood] = [people, places, things, topics, moods].map((words) => pick(chance, words))
  const number = 2 + Math.floor(chance() * 8)
  return pick(chance, [
    `Write a ${mood} story about ${who} who finds ${what} in ${where}.`,
    `Once upon a time ${who} came to ${where} with ${what}. `,
    `Explain ${topic} to a child.`,
    `Give me ${number} tips about ${topic}.`,
    `What is the difference between ${topic} and ${pick(chance, topics)}?`,
    `${capital(who!)} looked at ${what} and said: "`,
    `Summarise in ${number} sentences: ${who} left ${what} in ${where}, and nobody noticed until spring.`,
    `Write a ${mood} email in which ${who} asks for ${what}.`,
    `Is ${topic} worth the money? Answer in a ${mood} tone.`,
    `Translate into plain English: ${who} shall return ${what} to ${where} without delay.`,
    `Continue the dialogue.\nA: Where is ${what}?\nB: I left it in ${where}.\nA:`,
    `Why do people like ${topic}?`,
    `In ${where}, ${who} `,
    `List ${number} questions that ${who} might ask about ${topic}.`,
  ])
}

const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1)
const seed = (chance: Chance) => Math.floor(chance() * 0x1_0000_0000)

function pick<T>(chance: Chance, values: readonly T[]): T {
  return values[Math.min(values.length - 1, Math.floor(chance() * values.length))]!
}
