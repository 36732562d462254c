import { once } from 'node:events'
import { Agent, get, type IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import { describe, expect, it, onTestFinished } from 'vitest'
import { Client } from '../helpers/client.js'
import { Line } from '../helpers/process.js'

describe('an attached http.Server', () => {
  it('hands its listener over: whoever connects is answered, always', async () => {
    const line = await Line.start('http.mjs')
    const first = line.current
    let done = false
    const answers: string[] = []
    const churn = async () => {
      while (!done) answers.push(await answer(await request(line.port, '/')))
    }
    const churning = Promise.all([churn(), churn(), churn(), churn()])
    for (let handovers = 0; handovers < 3; handovers++) {
      await line.next()
      const pid = String(line.current.pid)
      const since = answers.length
      while (!answers.slice(since).includes(pid)) await new Promise((resolve) => setImmediate(resolve))
    }
    done = true
    await churning
    expect([...new Set(answers)].sort()).toEqual(line.generations.map(({ pid }) => String(pid)).sort())
    expect(answers[0]).toBe(String(first.pid))
  })

  it('answers what is in flight, and closes after it', async () => {
    const line = await Line.start('http.mjs')
    const predecessor = line.current
    const agent = new Agent({ keepAlive: true })
    onTestFinished(() => agent.destroy())
    const slow = request(line.port, '/slow', agent)
    await predecessor.until('busy')
    await line.nextWhileDraining()
    expect(await answer(await request(line.port, '/'))).toBe(String(line.current.pid))
    predecessor.tell('release')
    const response = await slow
    expect(response.headers.connection).toBe('close')
    expect(await answer(response)).toBe(String(predecessor.pid))
    expect((await predecessor.exited).code).toBe(0)
  })

  it('closes idle keep-alive connections politely', async () => {
    const line = await Line.start('http.mjs')
    const client = await Client.connect(line.port)
    client.send('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    while ((await client.line()) !== '\r') {}
    await client.expect(String(line.current.pid))
    await line.next()
    await client.expectEnd()
    expect(client.seen).toEqual(['end'])
  })
})

async function request(port: number, path: string, agent: Agent | false = false): Promise<IncomingMessage> {
  const [response] = await once(get({ port, path, host: '127.0.0.1', agent }), 'response')
  return response as IncomingMessage
}

async function answer(response: IncomingMessage): Promise<string> {
  expect(response.statusCode).toBe(200)
  return text(response)
}
