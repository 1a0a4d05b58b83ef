import { runWorld } from './simulation/world.ts'
const first=Number(process.argv[2]), count=Number(process.argv[3]), hours=Number(process.argv[4]??24)
let steps=0,cpu=0,tasks=0
const faults=new Map<string,number>()
for (let s=first;s<first+count;s++){ const c0=process.cpuUsage(); const r=await runWorld({seed:s,hours}); const c=process.cpuUsage(c0); const sec=(c.user+c.system)/1e6; steps+=r.steps; cpu+=sec; tasks+=r.tasks; for(const [k,n] of r.faults) faults.set(k,(faults.get(k)??0)+n)
 if (r.violations.length) for (const v of r.violations.slice(0,3)) console.log('SEED',s,'steps',r.steps,v.promise,'::',v.message.slice(0,700))
 else if (process.argv[5]) console.log(s,r.steps,r.tasks,r.machines,sec.toFixed(2)) }
console.log('steps',steps,'tasks',tasks,'cpu/seed',(cpu/count).toFixed(2)); console.log([...faults].sort().map(([k,n])=>k+':'+n).join(', '))
