/** Which part of a request a stack belongs to: what its innermost telling frame says. */

export type Frame = { functionName: string; url: string; lineNumber: number }

/** In the order in which they are printed. A frame of the first that fits its place or its name decides. */
const TELLING: readonly (readonly [stage: string, where: RegExp])[] = [
  ['collecting garbage', /^\(garbage collector\)$/],
  ['outside JavaScript', /^\(program\)$/],
  ['signing', /\/src\/signing\/|\/node_modules\/jose\//],
  [
    'ids, hashes, random bytes',
    /\/src\/ids\.ts|\/node_modules\/(typeid-js|uuid)|\/src\/keys\/key-format\.ts/,
  ],
  ['body: parse and validate', /\/src\/http\/json-body\.ts|\/node_modules\/valibot\//],
  ['logging', /\/node_modules\/(pino|sonic-boom|thread-stream)/],
  ['postgres.js', /\/node_modules\/postgres\/|\/src\/database\//],
  ['ledger and admission', /\/src\/ledger\//],
  ['own: HTTP, network, errors', /\/src\/(http|network|app|errors|main|compose|clock)(\/|\.ts)/],
  ['own: exchange, keys and the rest', /\/src\//],
  ['the floor’s handler', /\/scripts\/bench\/floor\.ts/],
  ['Hono', /\/node_modules\/hono\//],
  ['@hono/node-server', /\/node_modules\/@hono\//],
  ['Request, Response, streams', /^node:internal\/(deps\/undici|webstreams|url|blob|abort)/],
  ['node:http', /^node:(_http|internal\/http)/],
]
/** For stacks in which no frame tells: those of Node alone. */
const FALLBACK: readonly (readonly [stage: string, where: RegExp])[] = [
  ['signing', /^node:internal\/crypto/],
  ['sockets', /^node:(net|internal\/(stream|net))/],
  ['event loop, timers, promises', /^node:|^\(root\)$/],
]
export const STAGES = [...new Set([...TELLING, ...FALLBACK].map(([stage]) => stage)), 'other']

/** `stack` begins with the innermost frame. */
export function stageOf(stack: readonly Frame[]): string {
  for (const rules of [TELLING, FALLBACK])
    for (const { url, functionName } of stack) {
      const place = url === '' && functionName.startsWith('(') ? functionName : url
      const rule = rules.find(([, where]) => where.test(place))
      if (rule) return rule[0]
    }
  return 'other'
}

/** A function as a person looks for it: its name and place, without the folders above the project. */
export function nameOf({ functionName, url, lineNumber }: Frame): string {
  const place = url.replace(/^.*\/node_modules\//, '').replace(/^file:.*\/(src|scripts|sdk)\//, '$1/')
  return `${functionName || '(anonymous)'}${place ? `  ${place}:${lineNumber + 1}` : ''}`
}
