import { api } from '@orbyte/protocol'
import { type Route, route } from '../http/route.ts'
import type { WalletService } from './wallet-service.ts'

export function ledgerRoutes(wallet: WalletService): Route[] {
  return [
    route(api.wallet.get, (_input, caller) => wallet.get(caller)),
    route(api.wallet.transfers, (input, caller) => wallet.transfers(caller, input)),
    route(api.wallet.deposit, ({ amount }, caller) => wallet.deposit(caller, amount)),
    route(api.wallet.withdraw, ({ amount }, caller) => wallet.withdraw(caller, amount)),
    route(api.ledger.head, () => wallet.head()),
    route(api.ledger.batches, (input) => wallet.batches(input)),
  ]
}
