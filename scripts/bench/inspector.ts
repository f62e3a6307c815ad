/** Talks to the inspector of a process that was started with --inspect: to profile it as it is, under load. */
import type { HeapProfiler, Profiler } from 'node:inspector'

export type Inspector = {
  cpuProfile(while_: () => Promise<void>): Promise<Profiler.Profile>
  /** Everything that was allocated meanwhile, what has been collected since included. */
  allocations(while_: () => Promise<void>): Promise<HeapProfiler.SamplingHeapProfile>
  close(): void
}

const SAMPLING_MICROSECONDS = 200
const SAMPLING_BYTES = 16_384

/** `log`: what the process has written to its standard error. */
export async function connectInspector(log: string): Promise<Inspector> {
  const address = /Debugger listening on (ws:\S+)/.exec(log)?.[1]
  if (!address) throw new Error('the process was not started with --inspect')
  const socket = new WebSocket(address)
  const pending = new Map<number, PromiseWithResolvers<unknown>>()
  socket.addEventListener('message', ({ data }) => {
    const { id, result, error } = JSON.parse(String(data))
    if (error) pending.get(id)?.reject(new Error(error.message))
    else pending.get(id)?.resolve(result)
    pending.delete(id)
  })
  const opened = Promise.withResolvers<void>()
  socket.addEventListener('open', () => opened.resolve())
  socket.addEventListener('error', () => opened.reject(new Error(`nothing answers at ${address}`)))
  await opened.promise

  let last = 0
  function call(method: string, params: object = {}): Promise<unknown> {
    const answer = Promise.withResolvers<unknown>()
    pending.set(++last, answer)
    socket.send(JSON.stringify({ id: last, method, params }))
    return answer.promise
  }

  return {
    async cpuProfile(while_) {
      await call('Profiler.enable')
      await call('Profiler.setSamplingInterval', { interval: SAMPLING_MICROSECONDS })
      await call('Profiler.start')
      await while_()
      const { profile } = (await call('Profiler.stop')) as { profile: Profiler.Profile }
      await call('Profiler.disable')
      return profile
    },
    async allocations(while_) {
      await call('HeapProfiler.startSampling', {
        samplingInterval: SAMPLING_BYTES,
        includeObjectsCollectedByMajorGC: true,
        includeObjectsCollectedByMinorGC: true,
      })
      await while_()
      const { profile } = (await call('HeapProfiler.stopSampling')) as {
        profile: HeapProfiler.SamplingHeapProfile
      }
      return profile
    },
    close: () => socket.close(),
  }
}
