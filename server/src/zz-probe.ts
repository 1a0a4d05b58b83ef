import { startTestServer } from './fixture-server.ts'
import { signOperatorToken } from '@orbyte/protocol'
const log = { debug() {}, info() {}, warn: console.error, error: console.error }
const m = await startTestServer({}, { log: log as never })
const token = await signOperatorToken(m.context.config.secretKey, m.clock.now())
console.log(await m.call('POST /api/admin/market/resume', { token, body: {} }))
await m.close()
