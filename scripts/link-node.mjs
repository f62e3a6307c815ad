/**
 * Runs before the npm scripts, on whatever Node the machine has: makes sure that `node` in them is the Node of the
 * lock file. npm 11 links it by itself; npm 10 does not, when several platforms' packages name the same command.
 */
import { existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs'
import { arch, platform } from 'node:os'

const modules = new URL('../node_modules/', import.meta.url)
const names = [`node-${platform()}-${arch()}`, `node-bin-${platform()}-${arch()}`]
const name = names.find((each) => existsSync(new URL(`${each}/bin/node`, modules)))
const link = new URL('.bin/node', modules)

if (name !== undefined && !existsSync(link)) {
  mkdirSync(new URL('.', link), { recursive: true })
  rmSync(link, { force: true })
  try {
    symlinkSync(`../${name}/bin/node`, link)
  } catch (error) {
    // Another one was faster.
    if (error.code !== 'EEXIST') throw error
  }
}
if (name === undefined && Number(process.versions.node.split('.')[0]) < 26) {
  console.error(
    `Signet runs on Node 26, and its package for ${platform()}-${arch()} is not installed: run npm ci without --omit=optional, or put Node 26 on the PATH.`,
  )
  process.exit(1)
}
