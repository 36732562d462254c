import { type Client, createClient } from 'graphql-ws'
import { describe, expect, it, onTestFinished } from 'vitest'
import WebSocket from 'ws'
import { startExample } from '../helpers/example.js'
import { nextPlain, TOOK_OVER } from '../helpers/plain.js'

describe('GraphQL over WebSocket, with TSUNAGI_MOVE=ws', () => {
  it('subscriptions go on through three reloads: nothing is yielded twice, nobody connects again', async () => {
    const line = await startExample('web/graphql.js', { TSUNAGI_MOVE: 'ws', TSUNAGI_GRACE: '5' })
    const [ada, bob] = [connect(line.port, 'ada'), connect(line.port, 'bob')]
    const heard = listen(ada.client)
    await until(async () => {
      await ask(bob.client, 'mutation { say(text: "are you there?") }')
      return heard.length > 0
    })
    await ask(bob.client, 'mutation { say(text: "from here") }') // in order, behind all that was asked before
    await until(async () => heard.includes('from here'))
    heard.length = 0
    const expected: string[] = []
    for (let generation = 2; generation <= 4; generation++) {
      const { pid } = await nextPlain(line)
      expect(await ask(bob.client, '{ pid }')).toEqual({ pid })
      expected.push(`generation ${generation}`)
      expect(await ask(bob.client, `mutation { say(text: "generation ${generation}") }`)).toEqual({ say: 1 })
      await until(async () => heard.length >= expected.length)
      expect(heard).toEqual(expected)
    }
    expect([...ada.seen, ...bob.seen]).toEqual(['connected', 'connected'])
  }, 60_000)

  it('a mutation that is being answered is run once, and its WebSocket moves behind the answer', async () => {
    const line = await startExample('web/graphql.js', { TSUNAGI_MOVE: 'ws', TSUNAGI_GRACE: '5' })
    const ada = connect(line.port, 'ada')
    const predecessor = line.current
    expect(await ask(ada.client, '{ pid }')).toEqual({ pid: predecessor.pid })
    const slow = ask(ada.client, 'mutation { saySlowly(text: "once") }')
    await ask(ada.client, '{ pid }')
    const successor = line.launch()
    await successor.untilSaid(TOOK_OVER)
    expect(await slow).toEqual({ saySlowly: 1 })
    await predecessor.exited
    expect(await ask(ada.client, '{ pid }')).toEqual({ pid: successor.pid })
    expect(await ask(ada.client, 'mutation { say(text: "the first here") }')).toEqual({ say: 1 })
    expect(ada.seen).toEqual(['connected'])
  }, 60_000)
})

function connect(port: number, user: string): { client: Client; seen: string[] } {
  const seen: string[] = []
  const client = createClient({
    url: `ws://127.0.0.1:${port}`,
    webSocketImpl: WebSocket,
    connectionParams: { user },
    lazy: false,
    retryAttempts: 0,
    onNonLazyError() {},
  })
  for (const event of ['connected', 'closed', 'error'] as const) client.on(event, () => void seen.push(event))
  onTestFinished(() => void client.dispose())
  return { client, seen }
}

function listen(client: Client): string[] {
  const heard: string[] = []
  client.subscribe<{ said: string }>(
    { query: 'subscription { said }' },
    { next: ({ data }) => heard.push(data?.said ?? ''), error() {}, complete() {} },
  )
  return heard
}

async function ask(client: Client, query: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    client.subscribe({ query }, { next: ({ data, errors }) => resolve(errors ?? data), error: reject, complete() {} })
  })
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 10))
}
