/**
 * Reverse proxies as they stand in front of Signet, where they are installed: each with connections that it uses again for
 * whoever comes next, and a mark of its own on every request.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findFreePort, waitFor } from '../support/process.ts'
import { sendRaw } from './raw.ts'
import { MARK } from './recorder.ts'

export type ReverseProxy = { port: number; stop(): Promise<void> }

/** Undefined: it is not installed. */
export const startHaproxy = (backend: number): Promise<ReverseProxy | undefined> =>
  startProxy(
    'haproxy',
    (folder) => ['-db', '-q', '-f', join(folder, 'config')],
    (port) => `
    defaults
      mode http
      timeout connect 5s
      timeout client 5s
      timeout server 5s
      http-reuse always
    frontend front
      bind 127.0.0.1:${port}
      http-request set-header ${MARK} %[uuid()]
      default_backend back
    backend back
      server signet 127.0.0.1:${backend} pool-max-conn 4
    `,
  )

/** Undefined: it is not installed. */
export const startNginx = (backend: number): Promise<ReverseProxy | undefined> =>
  startProxy(
    'nginx',
    (folder) => ['-p', folder, '-c', join(folder, 'config'), '-e', 'stderr'],
    (port, folder) => `
    daemon off;
    master_process off;
    pid ${folder}/pid;
    error_log /dev/null;
    events { worker_connections 256; }
    http {
      access_log off;
      ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((each) => `${each}_temp_path ${folder}/${each};`).join('\n')}
      upstream back { server 127.0.0.1:${backend}; keepalive 4; }
      server {
        listen 127.0.0.1:${port};
        location / {
          proxy_pass http://back;
          proxy_http_version 1.1;
          proxy_request_buffering off;
          proxy_set_header Connection '';
          proxy_set_header ${MARK} $request_id;
        }
      }
    }`,
  )

async function startProxy(
  name: string,
  argumentsOf: (folder: string) => string[],
  config: (port: number, folder: string) => string,
): Promise<ReverseProxy | undefined> {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/usr/local/sbin']
  const program = folders.map((folder) => join(folder, name)).find(existsSync)
  if (program === undefined) return undefined
  const folder = await mkdtemp(join(tmpdir(), `signet-${name}-`))
  const port = await findFreePort()
  await writeFile(join(folder, 'config'), `${config(port, folder).replace(/^ {4}/gm, '')}\n`)
  const child = spawn(program, argumentsOf(folder), { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.on('data', (chunk) => {
    said += chunk
  })
  const ended = once(child, 'close')
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
    await ended
    await rm(folder, { recursive: true, force: true })
  }
  try {
    await waitFor(`${name} to answer`, async () => {
      if (child.exitCode !== null) throw new Error(`${name} ended: ${said}`)
      const hello = 'GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'
      return (await sendRaw(port, hello).catch(() => undefined))?.statuses[0] === 200
    })
  } catch (error) {
    await stop()
    throw error
  }
  return { port, stop }
}
