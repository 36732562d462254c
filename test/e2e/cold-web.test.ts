import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { OwnNetwork } from '../helpers/own-network.js'
import { REGISTER } from '../helpers/plain.js'
import { describePrivileged } from '../helpers/privileged.js'
import { fixture } from '../helpers/process.js'

describePrivileged('net-namespace', 'a web server that knows nothing of all this', () => {
  test('is ended and started again: a request from the gap is answered on its own connection, and the WebSocket goes on', async () => {
    const network = await OwnNetwork.make()
    const line = await network.line(fixture('plain/web.cjs'), { node: REGISTER, env: { TSUNAGI_MOVE: 'all' } })
    const first = line.launch()
    await first.until('server listening')
    const browser = network.launch('cold-browser.mjs', line, {})
    await browser.until('connected')
    browser.tell('ask')
    const { port } = await browser.until('answer')
    await browser.until('message')
    await network.watchFlags()
    first.kill('SIGTERM')
    await first.exited
    browser.tell('ask')
    await delay(1_500)

    const next = line.launch()
    await next.untilSaid(/took 2 connections over from the snapshot/)
    expect(await browser.until('answer', ({ text }) => String(text).endsWith('/1'))).toMatchObject({ text: `${next.pid} answers /1`, port })
    expect(await browser.until('message', ({ text }) => String(text).endsWith('1'))).toMatchObject({ text: `${next.pid} echoes message 1` })
    browser.tell('ask')
    expect(await browser.until('answer', ({ text }) => String(text).endsWith('/2'))).toMatchObject({ port })
    await browser.until('message', ({ text }) => String(text).endsWith('2'))
    expect(browser.told.filter(({ event }) => ['closed', 'failed'].includes(event))).toEqual([])
    expect(first.all('websocket closed')).toEqual([])
    expect(await network.flags()).toEqual({ fin: 0, rst: 0 })
  })
})
