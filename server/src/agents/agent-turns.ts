/** Lets so many go on at a time; the others wait in line. What `work` comes to is the result. */
export function createTurns(most: number) {
  const waiting: (() => void)[] = []
  let taken = 0
  return async <T>(work: () => Promise<T>): Promise<T> => {
    if (taken < most) taken++
    else await new Promise<void>((resolve) => waiting.push(resolve))
    try {
      return await work()
    } finally {
      const next = waiting.shift()
      // Its turn goes on to whoever is next.
      if (next) next()
      else taken--
    }
  }
}
