/** A load balancer in front of instances, as docs/operations.md sets it up: HAProxy, or nginx where that is absent. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { findFreePort, waitFor } from './process.ts'

export type Balancer = {
  name: 'haproxy' | 'nginx'
  url: string
  /** On its standard error: which server it thinks is down, and why. */
  said(): string
  stop(): Promise<void>
}

const FOLDERS = ['/usr/sbin', '/usr/local/sbin', '/usr/bin', '/usr/local/bin', '/opt/homebrew/bin']

/** Undefined where the machine has neither (of those in `programs`). */
export async function startBalancer(
  ports: readonly number[],
  folder: string,
  programs: readonly Balancer['name'][] = ['haproxy', 'nginx'],
): Promise<Balancer | undefined> {
  for (const name of programs) {
    const path = await find(name)
    if (path === undefined) continue
    const port = await findFreePort()
    const file = join(folder, `${name}.conf`)
    await writeFile(file, name === 'haproxy' ? haproxy(port, ports) : nginx(port, ports, folder))
    const args = name === 'haproxy' ? ['-db', '-f', file] : ['-p', folder, '-c', file]
    const child = spawn(path, args, { stdio: ['ignore', 'ignore', 'pipe'] })
    let said = ''
    child.stderr.on('data', (chunk) => {
      said += chunk
    })
    const exited = once(child, 'exit')
    const url = `http://127.0.0.1:${port}`
    await waitFor(name, async () => {
      if (child.exitCode !== null) throw new Error(`${name} ended: ${said}`)
      return (await fetch(`${url}/readyz`).catch(() => undefined))?.status === 200
    })
    return {
      name,
      url,
      said: () => said,
      async stop() {
        child.kill('SIGTERM')
        await exited
      },
    }
  }
  return undefined
}

async function find(name: string): Promise<string | undefined> {
  for (const folder of FOLDERS) {
    const path = join(folder, name)
    const exists = await access(path).then(
      () => true,
      () => false,
    )
    if (exists) return path
  }
  return undefined
}

const haproxy = (port: number, ports: readonly number[]) => `
defaults
  mode http
  timeout connect 1s
  timeout client 30s
  timeout server 15s
  timeout check 2s
  retries 3
  option redispatch 1
frontend clients
  bind 127.0.0.1:${port}
  default_backend signet
backend signet
  balance roundrobin
  option httpchk
  http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost
  http-check expect status 200
  default-server check inter 500ms fall 2 rise 2
${ports.map((each, index) => `  server signet${index} 127.0.0.1:${each}`).join('\n')}
`

/** It asks nobody whether they are ready: it learns from a connection that fails. */
const nginx = (port: number, ports: readonly number[], folder: string) => `
daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log stderr crit;
events {}
http {
  access_log off;
  client_body_temp_path ${folder}/nginx-body;
  proxy_temp_path ${folder}/nginx-proxy;
  fastcgi_temp_path ${folder}/nginx-fastcgi;
  uwsgi_temp_path ${folder}/nginx-uwsgi;
  scgi_temp_path ${folder}/nginx-scgi;
  upstream signet {
${ports.map((each) => `    server 127.0.0.1:${each} max_fails=1 fail_timeout=1s;`).join('\n')}
  }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://signet;
      proxy_next_upstream error non_idempotent;
      proxy_next_upstream_tries 3;
    }
  }
}
`
