import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { Pool } from 'undici'
import { describe, expect, it, onTestFinished } from 'vitest'
import { missingNodes, NODES } from '../helpers/nodes.js'
import { startPlain, TOOK_OVER } from '../helpers/plain.js'
import type { Line } from '../helpers/process.js'

const UPLOAD = Buffer.alloc(200_000, 'a')

/** Clients with one keep-alive connection each, which send one request after the other until they are told to stop. */
class Agents {
  readonly #pools: Pool[]
  readonly #working: Promise<unknown>
  connections = 0
  requests = 0
  readonly failures: string[] = []
  readonly pids = new Set<number>()
  #done = false

  constructor(port: number, count: number) {
    this.#pools = Array.from({ length: count }, () => new Pool(`http://127.0.0.1:${port}`, { connections: 1, pipelining: 1 }))
    for (const pool of this.#pools) pool.on('connect', () => this.connections++)
    this.#working = Promise.all(this.#pools.map((pool, i) => this.#work(pool, i)))
    onTestFinished(() => this.stop())
  }

  async stop(): Promise<void> {
    this.#done = true
    await this.#working
    await Promise.all(this.#pools.splice(0).map((pool) => pool.close()))
  }

  async #work(pool: Pool, i: number): Promise<void> {
    while (!this.#done) {
      try {
        await this.#request(pool, i % 10)
        this.requests++
      } catch (error) {
        this.failures.push(String(error))
      }
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 40))
    }
  }

  /** Of ten agents one uploads, one downloads, two wait for slow answers. */
  async #request(pool: Pool, kind: number): Promise<void> {
    if (kind === 0) {
      const { body } = await pool.request({
        path: '/upload',
        method: 'POST',
        body: UPLOAD,
        headers: { 'content-type': 'application/x-bytes' },
      })
      expect(await body.json()).toEqual({ length: UPLOAD.length, sum: UPLOAD.length * 97 })
    } else if (kind === 1) {
      const { body } = await pool.request({ path: '/download', method: 'GET' })
      expect(await body.text()).toBe('x'.repeat(300_000))
    } else {
      const { body, statusCode, headers } = await pool.request({ path: kind < 4 ? '/slow' : '/', method: 'GET' })
      this.pids.add(Number(await body.text()))
      expect([statusCode, headers['connection']]).toEqual([200, 'keep-alive'])
    }
  }
}

async function reloadUnder(line: Line, agents: Agents, reloads: number): Promise<void> {
  for (let i = 0; i < reloads; i++) {
    const predecessor = line.current
    const successor = line.launch()
    await successor.untilSaid(TOOK_OVER)
    expect((await predecessor.exited).code, predecessor.stderr).toBe(0)
    while (!agents.pids.has(successor.pid) && agents.failures.length === 0) await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** On a machine that others keep busy, ms. */
const LONG = 240_000

describe('under load', () => {
  it.each(['express.cjs', 'fastify.cjs'])(
    '%s answers every request of 200 keep-alive agents, each on the connection that it began with',
    async (program) => {
      const line = await startPlain(program)
      const agents = new Agents(line.port, 200)
      await reloadUnder(line, agents, 5)
      await agents.stop()
      expect(agents.failures, line.said).toEqual([])
      expect(agents.connections, line.said).toBe(200)
      expect(agents.requests).toBeGreaterThan(1_000)
    },
    LONG,
  )

  it.each(NODES)(
    'so does Express on Node $major',
    async ({ path }) => {
      expect(missingNodes()).toBe('')
      const line = await startPlain('express.cjs', { command: [path] })
      const agents = new Agents(line.port, 50)
      await reloadUnder(line, agents, 3)
      await agents.stop()
      expect(agents.failures, line.said).toEqual([])
      expect(agents.connections, line.said).toBe(50)
    },
    LONG,
  )

  it('no request of wrk fails, which sends the next one as soon as it has an answer', async () => {
    const line = await startPlain('http.cjs')
    const hammering = promisify(execFile)('wrk', [
      '--connections',
      '50',
      '--threads',
      '1',
      '--duration',
      '8s',
      `http://127.0.0.1:${line.port}/`,
    ])
    for (let i = 0; i < 3; i++) {
      const predecessor = line.current
      await line.launch().untilSaid(TOOK_OVER)
      expect((await predecessor.exited).code, predecessor.stderr).toBe(0)
    }
    const { stdout } = await hammering
    expect(stdout).toMatch(/\d+ requests in/)
    expect(stdout).not.toMatch(/Socket errors|Non-2xx/)
  })
})
