/** What the benchmark uses of autocannon, which has no types of its own. */
declare module 'autocannon' {
  export type Request = { method: string; path: string; headers: Record<string, string>; body: string }
  export type Options = {
    url: string
    connections: number
    /** Seconds; or how many requests. */
    duration?: number
    amount?: number
    requests: Request[]
    /** One connection's turns: called before it is opened. */
    setupClient?: (client: { setRequests(requests: Request[]): void }) => void
  }
  export type Result = {
    /** Seconds. */
    duration: number
    errors: number
    timeouts: number
    non2xx: number
    '2xx': number
    /** Milliseconds. */
    latency: { p50: number; p99: number }
  }
  export type Run = PromiseLike<Result> & {
    on(event: 'response', listener: (client: unknown, status: number) => void): void
  }
  export default function autocannon(options: Options): Run
}
