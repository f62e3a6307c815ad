/** A process of its own for one flood: `attacker.ts <name> <port>`. Says at its end how much it has sent. For measure/floods.ts. */
import { FLOODS } from './floods.ts'

const [name = '', port] = process.argv.slice(2)
const flood = FLOODS[name]
if (!flood) throw new Error(`there is no flood ${name}`)
let sent = 0
flood.start(Number(port), () => {
  sent++
})
process.once('SIGTERM', () => {
  console.log(sent)
  process.exit(0)
})
