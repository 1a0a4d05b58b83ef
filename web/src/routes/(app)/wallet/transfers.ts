import type { api, OutputOf } from '@orbyte/protocol'

export type Transfer = OutputOf<typeof api.wallet.transfers>['items'][number]
type Seen = { title: string; note: string | null; sign: '+' | '−' | '' }

/** A transfer as one of its two sides sees it. Between one's own balance and what is held, nothing comes or goes. */
export function viewTransfer({ kind, debit_account, credit_account }: Transfer, userId: string): Seen {
  const isDebit = debit_account === `available:${userId}` || debit_account === `held:${userId}`
  const isCredit = credit_account === `available:${userId}` || credit_account === `held:${userId}`
  const sign = isDebit && isCredit ? '' : isDebit ? '−' : '+'
  switch (kind) {
    case 'deposit':
      return { title: 'Deposit', note: 'from the faucet', sign }
    case 'withdrawal':
      return { title: 'Withdrawal', note: null, sign }
    case 'hold':
      return { title: 'Held for a task', note: 'still yours', sign }
    case 'release':
      return { title: 'Back from a hold', note: 'what was not used', sign }
    case 'settlement':
      return isDebit
        ? { title: 'Paid for a task', note: null, sign }
        : { title: 'Earned with a task', note: null, sign }
    case 'fee':
      return { title: 'Fee of the market', note: null, sign }
    case 'refund':
      return { title: 'Refund', note: null, sign }
    case 'audit':
      return { title: 'For a check by the market', note: null, sign }
  }
}
