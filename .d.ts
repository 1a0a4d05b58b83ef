import { defects } from './simulation/defects/defects.ts'
import { makePatchedCopy } from './simulation/defects/patched-copy.ts'
console.log(makePatchedCopy(defects.find((d)=>d.name===process.argv[2])!).folder)
