/** A57 with as many sockets as it names: the attackers are processes of their own, each with addresses of its own. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, expect, test } from 'vitest'
import { mint } from '../../support/mint.ts'
import { createProcesses, readDemo, withDatabase } from '../../support/process.ts'

const processes = createProcesses()
afterEach(processes.cleanUp)
afterAll(processes.close)

const ATTACKERS = 4
const SOCKETS_EACH = 5000
/** Opens connections from addresses of one network, sends what it is told on each, and counts what becomes of them. */
const ATTACKER = `
  const { connect } = require('node:net')
  const [port, network, howMany, bytes] = JSON.parse(process.argv[1])
  let opened = 0, closed = 0, failed = 0
  const report = () => process.stdout.write(JSON.stringify({ opened, closed, failed }) + String.fromCharCode(10))
  const open = (i) => {
    const socket = connect({ port, host: '127.0.0.1', localAddress: '127.0.' + network + '.' + (1 + i % 100) })
    socket.on('connect', () => { opened++; if (bytes) socket.write(bytes) })
    socket.on('error', () => { failed++ })
    socket.on('data', () => {})
    socket.on('close', () => { closed++ })
  }
  let i = 0
  const timer = setInterval(() => {
    for (let j = 0; j < 50 && i < howMany; j++) open(i++)
    if (i === howMany) clearInterval(timer)
  }, 25)
  setInterval(report, 500)
`

async function residentMegabytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024
}

/** Connections that the service's end has. */
async function establishedAt(port: number): Promise<number> {
  const lines = (await readFile('/proc/net/tcp', 'utf8')).split('\n')
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  return lines.filter((line) => {
    const [, address = '', , state] = line.trim().split(/\s+/)
    return address.endsWith(local) && state === '01'
  }).length
}

test('A57 20,000 idle sockets: bounded in memory, closed after 10 s, and in nobody’s way', {
  timeout: 120_000,
}, async (context) => {
  if (process.platform !== 'linux') return context.skip('needs Linux: loopback addresses and /proc')
  const dataDir = await processes.dataDir()
  const bootstrapFile = join(dataDir, '../bootstrap.json')
  const service = await processes.start({
    DATA_DIR: dataDir,
    BOOTSTRAP_FILE: bootstrapFile,
    LOG_LEVEL: 'info',
  })
  const demo = await readDemo(bootstrapFile)
  await withDatabase(
    dataDir,
    (sql) => sql`update clients set rate_limit_per_minute = 1000000 where id = ${demo.clientId}`,
  )
  for (let i = 0; i < 50; i++) expect((await mint(service.url, demo)).status).toBe(200)
  const before = await residentMegabytes(service.pid)

  const attackers = Array.from({ length: ATTACKERS }, (_, i) => {
    const bytes = i % 2 === 0 ? '' : 'POST /v2/auth/token HTTP/1.1\r\nHost: x\r\nX: '
    const told = JSON.stringify([service.port, 10 + i, SOCKETS_EACH, bytes])
    const child = spawn(process.execPath, ['-e', ATTACKER, told], { stdio: ['ignore', 'pipe', 'inherit'] })
    let last = { opened: 0, closed: 0, failed: 0 }
    child.stdout.on('data', (chunk) => {
      const lines = String(chunk).trim().split('\n')
      last = JSON.parse(lines.at(-1) ?? '{}')
    })
    return { child, counts: () => last }
  })
  const sum = (name: 'opened' | 'closed' | 'failed') =>
    attackers.reduce((total, { counts }) => total + counts()[name], 0)
  try {
    let most = 0
    const began = performance.now()
    while (performance.now() - began < 25_000) {
      // Good clients are served all the while, on connections that they have and on new ones.
      for (const headers of [{}, { Connection: 'close' }])
        expect((await mint(service.url, demo, { headers: headers as Record<string, string> })).status).toBe(
          200,
        )
      most = Math.max(most, await residentMegabytes(service.pid))
      await sleep(100)
    }
    console.log(
      `${sum('opened')} connections opened, ${sum('closed')} of them closed; ${before.toFixed(0)} MB before, ${most.toFixed(0)} MB at most`,
    )
    expect(sum('opened') + sum('failed')).toBe(ATTACKERS * SOCKETS_EACH)
    expect(sum('opened')).toBeGreaterThan(0.9 * ATTACKERS * SOCKETS_EACH)
    // Where the kernel's queue was full, a client may believe in a connection that nobody has.
    expect(await establishedAt(service.port)).toBeLessThan(20)
    expect(sum('closed')).toBeGreaterThan(0.9 * ATTACKERS * SOCKETS_EACH)
    expect(most - before).toBeLessThan(200)
  } finally {
    for (const { child } of attackers) {
      child.kill('SIGKILL')
      await once(child, 'close').catch(() => {})
    }
  }
  expect(service.stderr()).toContain('too_many_connections')
  expect(
    service
      .stderr()
      .split('\n')
      .filter((line) => line.includes('turned away')).length,
  ).toBeLessThan(40)
  expect(await service.stop()).toBe(0)
})
