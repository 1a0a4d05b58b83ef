/** The time, for what is shown in relation to it: read `now.ms` and it is read again every second. */
class Now {
  ms = $state(Date.now())
  constructor() {
    setInterval(() => (this.ms = Date.now()), 1_000)
  }
}

export const now = new Now()
