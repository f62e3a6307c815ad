/**
 * `npm run measure -- <name> [options]`: one of the figures of docs/performance.md and docs/reliability.md, measured on
 * servers of its own. Each prints what it found and exits with 1 when that is not what is promised. Without a name: lists
 * them.
 */
import { readdir, readFile } from 'node:fs/promises'

const FOLDER = new URL('measure/', import.meta.url)
const names = (await readdir(FOLDER)).map((file) => file.replace(/\.ts$/, '')).sort()
const [name] = process.argv.splice(2, 1)

if (name !== undefined && names.includes(name)) await import(`./measure/${name}.ts`)
else {
  for (const each of names) {
    const about =
      /^\/\*\*([\s\S]*?)\*\//.exec(await readFile(new URL(`${each}.ts`, FOLDER), 'utf8'))?.[1] ?? ''
    console.log(`${each}\n  ${about.replaceAll(/\n \*( |$)/g, '\n  ').trim()}\n`)
  }
  process.exit(name === undefined ? 0 : 2)
}
