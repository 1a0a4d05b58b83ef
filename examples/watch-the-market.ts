import { createClient, pages } from '@orbyte/sdk'

// Lists what is on offer, cheapest first. Needs no account.
//   ORBYTE_URL=http://127.0.0.1:8000 npx tsx examples/watch-the-market.ts

const client = createClient({ url: process.env.ORBYTE_URL ?? 'http://127.0.0.1:8000' })
for await (const gpu of pages(client.gpus.list, { sort: 'price' as const }))
  process.stdout.write(
    `${gpu.price_per_hour.padStart(8)} ORB/h  ${gpu.status.padEnd(11)}  ${gpu.vram_gb} GiB  ${gpu.model}\n`,
  )
