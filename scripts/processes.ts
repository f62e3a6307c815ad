/** Server processes of a script's own, to be killed and started again; nothing of them is left behind. */
import type { Processes } from '../test/support/process.ts'

/** Ends this process with the exit code that `work` resolves with; with 1 when it fails or is interrupted. */
export async function withProcesses(
  processes: Processes,
  work: (processes: Processes) => Promise<number>,
): Promise<never> {
  const interrupted = Promise.withResolvers<never>()
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => interrupted.reject(new Error('it was interrupted')))
  const code = await Promise.race([work(processes), interrupted.promise]).catch((error) => {
    console.error(`\nIt failed: ${error instanceof Error ? error.message : error}`)
    return 1
  })
  await processes.cleanUp()
  await processes.close()
  process.exit(code)
}
