/** Which core a process runs on, and how much of the cores it uses: from taskset and /proc, so on Linux only. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'

const TICK_MICROSECONDS = 10_000

/** Whether processes can be kept apart: one core for what is measured, one for everything else. */
export function canPin(): boolean {
  try {
    execFileSync('taskset', ['-p', String(process.pid)], { stdio: 'ignore' })
    return availableParallelism() > 1
  } catch {
    return false
  }
}

/** The process, its threads, its children, and whatever it starts from now on. Undefined: leaves it where it is. */
export function pin(root: number, core: number | undefined): void {
  if (core === undefined) return
  for (const pid of family(root))
    try {
      execFileSync('taskset', ['-a', '-p', '-c', String(core), String(pid)], { stdio: 'ignore' })
    } catch {
      // It has ended meanwhile.
    }
}

/**
 * The processor time that the process and its children have used so far, in microseconds, by the names of their threads;
 * `main` is each one's first, on which JavaScript runs. Undefined where there is no /proc.
 */
export function cpuByThread(root: number, without?: number): Map<string, number> | undefined {
  if (!existsSync('/proc/self/schedstat')) return undefined
  const sums = new Map<string, number>()
  for (const pid of family(root, without))
    for (const thread of entries(`/proc/${pid}/task`)) {
      const path = `/proc/${pid}/task/${thread}`
      const name = thread === String(pid) ? 'main' : (read(`${path}/comm`)?.trim() ?? 'ended')
      // Its first number is the nanoseconds on a core. A thread that has just ended counts no more.
      const microseconds = Number(read(`${path}/schedstat`)?.split(' ', 1)[0] ?? 0) / 1000
      sums.set(name, (sums.get(name) ?? 0) + microseconds)
    }
  return sums
}

/** Of all its threads. */
export function cpuMicroseconds(root: number, without?: number): number | undefined {
  const threads = cpuByThread(root, without)
  return threads && [...threads.values()].reduce((sum, each) => sum + each, 0)
}

/** What all processes of the machine have used so far, in microseconds. Counted in hundredths of a second. */
export function machineMicroseconds(): number | undefined {
  const [, user, nice, system, , , irq, softirq] =
    read('/proc/stat')?.split('\n', 1)[0]?.split(/ +/).map(Number) ?? []
  if (user === undefined) return undefined
  return (user + (nice ?? 0) + (system ?? 0) + (irq ?? 0) + (softirq ?? 0)) * TICK_MICROSECONDS
}

/** What children of this process used that have ended. */
export function endedMicroseconds(): number {
  const fields = read('/proc/self/stat')?.split(') ').at(-1)?.split(' ').map(Number) ?? []
  return ((fields[13] ?? 0) + (fields[14] ?? 0)) * TICK_MICROSECONDS
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return undefined
  }
}

function entries(path: string): string[] {
  try {
    return readdirSync(path)
  } catch {
    return []
  }
}

/** `without`: one of them, and its own; the embedded PostgreSQL is a child of the server. */
function family(root: number, without?: number): number[] {
  const parents = new Map<number, number>()
  for (const name of entries('/proc')) {
    const pid = Number(name)
    if (!Number.isInteger(pid)) continue
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
      parents.set(pid, Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]))
    } catch {
      // It has ended meanwhile.
    }
  }
  const found = [root]
  for (const each of found)
    for (const [pid, parent] of parents) if (parent === each && pid !== without) found.push(pid)
  return found
}
