import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { Client } from '../helpers/client.js'
import { Line, ServerProcess } from '../helpers/process.js'

describe('processes that have nothing to do with each other', () => {
  it('on two ports never meet', async () => {
    const one = await Line.start('answers.mjs')
    const other = await Line.start('answers.mjs', { env: { TSUNAGI_DIR: one.directory } })
    const clients = await Promise.all([one, other].map(({ port }) => Client.connect(port)))
    await other.next()
    await one.next()
    for (const [i, line] of [one, other].entries()) {
      clients[i]?.send('who?\n')
      expect(await clients[i]?.line()).toBe(`${line.current.pid} who?`)
      expect(line.current.all('resumed')[0]).toMatchObject({ moved: 1, generation: 2, predecessor: line.generations[0]?.pid })
    }
  })

  it('on one port and two addresses never meet', async () => {
    const one = await Line.start('answers.mjs', { host: '127.0.0.1' })
    const client = await Client.connect(one.port)
    const other = one.launch({ host: '127.0.0.2' })
    await other.until('serving')
    expect(other.all('resumed')).toHaveLength(0)
    client.send('who?\n')
    expect(await client.line()).toBe(`${one.generations[0]?.pid} who?`)
  })

  it('a forked child gets EADDRINUSE where its parent listens, as in plain Node', async () => {
    const line = await Line.start('forks.mjs')
    line.current.tell('fork')
    expect(await line.current.until('child error')).toMatchObject({ code: 'EADDRINUSE' })
    expect(line.current.all('child listening')).toHaveLength(0)
    await (await Client.connect(line.port)).expect(`${line.current.pid}\n`)
  })

  it('a second server of one process gets EADDRINUSE where the first listens', async () => {
    const line = await Line.start('forks.mjs')
    line.current.tell('listen twice')
    expect(await line.current.until('second error')).toMatchObject({ code: 'EADDRINUSE' })
    await (await Client.connect(line.port)).expect(`${line.current.pid}\n`)
  })

  it('a script under the library does its work and leaves a server alone', async () => {
    const line = await Line.start('answers.mjs')
    const register = fileURLToPath(new URL('../../dist/register.js', import.meta.url))
    const code = `
      const server = require('net').createServer()
      server.listen(0, () => server.close(() => console.log(JSON.stringify({ event: 'done' }))))`
    const env = { ...process.env, TSUNAGI_DIR: line.directory }
    const script = new ServerProcess('', env, { node: ['--import', register, '-e', code] })
    await script.until('done')
    expect(await script.exited).toMatchObject({ code: 0 })
    expect(script.stderr).toBe('')
    const client = await Client.connect(line.port)
    client.send('who?\n')
    expect(await client.line()).toBe(`${line.current.pid} who?`)
    expect(line.current.stderr).toBe('')
  })
})
