/**
 * Signet on the command line. Exit codes: 0, it is as it should be; 1, it is not; 2, it could not be found out.
 */
import { parseArgs } from 'node:util'
import { auditVerify, parseHead } from './audit-verify.ts'
import { CannotRunError } from './database.ts'

const USAGE = `Usage: signet audit verify [--head <sequence>:<hash>]

  Verifies the hash chain of the audit trail and prints its head. Keep the head elsewhere, and name it the next
  time: then a trail that was cut off or written anew since is found, too.

  Reads the same environment variables as the service, which may run meanwhile.`

try {
  process.exitCode = await run(process.argv.slice(2))
} catch (error) {
  console.error(error instanceof CannotRunError ? error.message : error)
  process.exitCode = 2
}

async function run(args: string[]): Promise<number> {
  const { values, positionals } = parse(args)
  if (values.help) {
    console.log(USAGE)
    return 0
  }
  if (positionals.join(' ') !== 'audit verify') throw new CannotRunError(USAGE)
  const head = values.head === undefined ? undefined : parseHead(values.head)
  if (values.head !== undefined && !head)
    throw new CannotRunError('--head must be a number, a colon and 64 hexadecimal digits, as it was printed.')
  return auditVerify(process.env, head, console.log)
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: { head: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
    })
  } catch {
    throw new CannotRunError(USAGE)
  }
}
