/** Something that is done some time after it was asked for: at most once in `periodMs`, and never while it is still going on. */
export function atMostEvery(periodMs: number, act: () => Promise<unknown>) {
  let timer: ReturnType<typeof setTimeout> | undefined
  let isBusy = false
  let isDue = false
  let isStopped = false

  async function run() {
    timer = undefined
    isDue = false
    isBusy = true
    try {
      await act()
    } finally {
      isBusy = false
    }
    if (isDue) ask()
  }
  function ask() {
    if (isStopped) return
    if (isBusy) isDue = true
    else timer ??= setTimeout(() => void run(), periodMs)
  }
  function stop() {
    isStopped = true
    clearTimeout(timer)
  }
  return { ask, stop }
}
