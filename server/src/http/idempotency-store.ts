import { problem } from '@orbyte/protocol'
import { type Context, isoFromMs } from '../context.ts'
import type { Transaction } from '../db/database.ts'
import type { Caller } from './route.ts'

/**
 * Runs `work` in a transaction, once for each idempotency key of a user and endpoint. A repetition with the same body gets the
 * first result again; one with another body is refused. The key is written in the transaction of the work: both or neither.
 * `work`'s result must survive JSON.
 */
export function transactionOnce<T>(
  context: Pick<Context, 'database' | 'clock' | 'config'>,
  caller: Pick<Caller, 'userId' | 'idempotency'>,
  work: (tx: Transaction) => Promise<T>,
): Promise<T> {
  const { userId, idempotency } = caller
  if (!idempotency) return context.database.transaction(work)
  const { endpoint, key, bodyHash } = idempotency
  return context.database.transaction(async (tx) => {
    const oldest = isoFromMs(context.clock.now() - context.config.timing.idempotencyMs)
    const row = await tx.get<{ body_hash: string; reply: string; created_at: string }>(
      'SELECT body_hash, reply, created_at FROM idempotency_keys WHERE user_id = ? AND endpoint = ? AND key = ?',
      ...[userId, endpoint, key],
    )
    if (row && row.created_at >= oldest) {
      if (row.body_hash === bodyHash) return JSON.parse(row.reply) as T
      throw problem(
        'idempotency_key_reused',
        'This Idempotency-Key was used with another body. Use a new key for a new request.',
      )
    }
    const result = await work(tx)
    await tx.run(
      `INSERT INTO idempotency_keys (user_id, endpoint, key, body_hash, reply, created_at) VALUES (?, ?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET body_hash = excluded.body_hash, reply = excluded.reply, created_at = excluded.created_at`,
      ...[userId, endpoint, key, bodyHash, JSON.stringify(result), isoFromMs(context.clock.now())],
    )
    return result
  })
}

export function deleteOldIdempotencyKeys(tx: Transaction, olderThan: string): Promise<number> {
  return tx.run('DELETE FROM idempotency_keys WHERE created_at < ?', olderThan)
}
