/** The regular expressions of the source, found in it by a parser, so that a new one is looked at too. */
import { glob, readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { checkSync } from 'recheck'
import { parseSync } from 'vite'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

export type Expression = { file: string; pattern: string; flags: string }
export type Constructed = { file: string; code: string }

/** `constructed`: where one is made of parts, as `new RegExp(…)` or `RegExp(…)`. */
export async function findExpressions(): Promise<{ literals: Expression[]; constructed: Constructed[] }> {
  const literals: Expression[] = []
  const constructed: Constructed[] = []
  const files: string[] = []
  for await (const file of glob('{src,sdk/src}/**/*.ts', { cwd: ROOT })) files.push(file)
  for (const file of files.sort()) {
    const text = await readFile(ROOT + file, 'utf8')
    const { program, errors } = parseSync(file, text)
    if (errors.length > 0) throw new Error(`${file} was not parsed: ${errors[0]?.message}`)
    visit(program, (node) => {
      if (node.type === 'Literal' && node.regex) literals.push({ file, ...node.regex })
      const isMade = node.type === 'NewExpression' || node.type === 'CallExpression'
      if (isMade && node.callee?.name === 'RegExp')
        constructed.push({ file, code: text.slice(node.start, node.end) })
    })
  }
  return { literals, constructed }
}

type Node = {
  type?: string
  start: number
  end: number
  regex?: { pattern: string; flags: string }
  callee?: { name?: string }
}

function visit(node: unknown, look: (node: Node) => void): void {
  if (typeof node !== 'object' || node === null) return
  if ('type' in node) look(node as Node)
  for (const part of Object.values(node)) visit(part, look)
}

export type Verdict = { status: 'safe' | 'vulnerable' | 'unknown'; why: string }

/** What recheck says of it, within that time; its own JavaScript, which every machine has. */
export function verdictOn(
  { pattern, flags }: Pick<Expression, 'pattern' | 'flags'>,
  milliseconds: number,
): Verdict {
  process.env.RECHECK_SYNC_BACKEND = 'pure'
  const said = checkSync(pattern, flags, { timeout: milliseconds })
  if (said.status === 'unknown') return { status: 'unknown', why: said.error.kind }
  return { status: said.status, why: said.complexity.summary }
}

/** As it stands in the list of those that have been looked at. */
export const lineOf = ({ pattern, flags }: Pick<Expression, 'pattern' | 'flags'>): string =>
  `/${pattern}/${flags}`
