/** Calls `listen` with 1, 2, … for each Ctrl-C, instead of ending the process. The result gives Ctrl-C back. */
export function onInterrupts(listen: (times: number) => void): () => void {
  let times = 0
  const count = () => listen(++times)
  process.on('SIGINT', count)
  return () => void process.off('SIGINT', count)
}
