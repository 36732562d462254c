import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Browser, chromium, type Page } from 'playwright-core'
import { describe, expect, it, onTestFailed, onTestFinished } from 'vitest'
import { Client } from '../helpers/client.js'
import { freePort, Line } from '../helpers/process.js'

const root = fileURLToPath(new URL('../..', import.meta.url))
const RELOADS = 10
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** What the page notes of itself: see examples/chat/page.html. */
interface Noted {
  events: string[]
  messages: { type: string; nick?: string; text?: string; room?: string; generation?: number; people?: string[] }[]
  ticks: number[]
  uploads: ({ bytes: number; sha256: string } | 'failed')[]
}

describe('the web chat in a real browser', () => {
  it('one WebSocket, one event stream and an upload go on through ten reloads by the button', async () => {
    const { port, chatPort } = await startChat()
    const browser = await launch()
    const [ada, bob] = await Promise.all(['ada', 'bob'].map((nick) => enter(browser, port, nick)))
    if (!ada || !bob) throw new Error('two pages')
    await ada.evaluate('window.first = chat.socket')
    const terminal = await Client.connect(chatPort)
    expect(await terminal.line()).toBe('Welcome. Your nickname?')
    terminal.send('tom\n')
    expect(await terminal.line()).toMatch(/^\* tom, you are in lobby, with (ada, bob|bob, ada)\./)

    const file = randomBytes(20_000_000)
    await ada.setInputFiles('#file', { name: 'big.bin', mimeType: 'application/octet-stream', buffer: file })
    for (let generation = 2; generation <= RELOADS + 1; generation++) {
      await ada.click('#reload:enabled')
      await say(bob, `bob, in the middle of ${generation}`)
      await ada.waitForFunction(`document.getElementById('generation').textContent === '${generation}'`)
      await say(ada, `ada, generation ${generation}`)
      terminal.send(`tom, generation ${generation}\n`)
    }
    await ada.waitForFunction('chat.uploads.length > 0')
    for (const page of [ada, bob]) await hears(page, `tom, generation ${RELOADS + 1}`)

    expect(await ada.evaluate('window.first === chat.socket')).toBe(true)
    const noted = (await ada.evaluate('({ ...chat, socket: undefined })')) as Noted
    expect(noted.events).toEqual(['open'])
    expect(noted.uploads).toEqual([{ bytes: file.length, sha256: createHash('sha256').update(file).digest('hex') }])
    expect(noted.ticks).toEqual(noted.ticks.map((_, index) => index + 1))
    expect(noted.ticks.length).toBeGreaterThan(3)
    expect(noted.messages.filter(({ type }) => type === 'welcome')).toHaveLength(1)
    expect(noted.messages.flatMap(({ generation, type }) => (type === 'served' ? [generation] : []))).toEqual(numbers(2, RELOADS + 1))
    for (const [nick, words] of [
      ['ada', 'ada, generation'],
      ['bob', 'bob, in the middle of'],
      ['tom', 'tom, generation'],
    ] as const) {
      const said = noted.messages.filter((message) => message.nick === nick && !message.text?.startsWith('has uploaded'))
      expect(said.map(({ text }) => text)).toEqual(numbers(2, RELOADS + 1).map((number) => `${words} ${number}`))
    }
    expect(noted.messages.filter(({ nick, type }) => type === 'told' && nick === undefined).map(({ text }) => text)).toEqual(
      expect.not.arrayContaining(['ada has left', 'bob has left', 'tom has left']),
    )
    expect(noted.messages.at(-1)?.people).toEqual(['ada', 'bob', 'tom'])
    expect(terminal.seen).toEqual([])
  }, 180_000)

  it('rooms are apart, and people come and go', async () => {
    const { port } = await startChat()
    const browser = await launch()
    const [ada, bob] = [await enter(browser, port, 'ada'), await enter(browser, port, 'bob')]
    await bob.click('#rooms li:has-text("garden")')
    await hears(ada, 'bob has gone to garden')
    await say(bob, 'only for the garden')
    await hears(bob, 'only for the garden')
    await bob.close()
    await say(ada, 'alone')
    await hears(ada, 'alone')
    expect(await ada.textContent('#talk')).not.toMatch('only for the garden')
    expect(await ada.locator('#people li').allTextContents()).toEqual(['ada'])
  }, 60_000)
})

async function startChat(): Promise<{ port: number; chatPort: number }> {
  const [chatPort, bulkPort] = [await freePort(), await freePort()]
  const line = await Line.empty(join(root, 'examples/chat/server.js'))
  const env = { CHAT_PORT: String(chatPort), BULK_PORT: String(bulkPort), STATUS_PORT: String(line.port) }
  // Its output is for people, and only JSON is read here.
  const server = line.launch({
    env,
    node: ['--import', 'data:text/javascript,console.log=(l)=>process.stdout.write(JSON.stringify({event:"said",l})+"\\n")'],
  })
  await server.until('said')
  onTestFinished(async () => {
    const response = await fetch(`http://127.0.0.1:${line.port}/`, { headers: { accept: 'application/json' } })
    const { pid } = (await response.json()) as { pid: number } // a process that another has started: nobody else would end it
    process.kill(pid, 'SIGKILL')
  })
  return { port: line.port, chatPort }
}

async function launch(): Promise<Browser> {
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: FLAGS })
  onTestFinished(() => browser.close())
  return browser
}

async function enter(browser: Browser, port: number, nick: string): Promise<Page> {
  const page = await browser.newPage({ viewport: { width: 1180, height: 760 } })
  onTestFailed(() => void screenshot(page, nick))
  await page.goto(`http://127.0.0.1:${port}/`)
  await page.waitForFunction("document.getElementById('live').classList.contains('open')")
  await say(page, nick)
  await page.waitForFunction(`document.getElementById('people').textContent.includes('${nick}')`)
  return page
}

async function hears(page: Page, text: string): Promise<void> {
  await page.waitForFunction(`document.getElementById('talk').textContent.includes('${text}')`)
}

async function say(page: Page, text: string): Promise<void> {
  await page.fill('#text', text)
  await page.press('#text', 'Enter')
}

async function screenshot(page: Page, name: string): Promise<void> {
  const folder = process.env['TSUNAGI_SCREENSHOTS'] ?? join(root, 'node_modules/.screenshots')
  mkdirSync(folder, { recursive: true })
  await page.screenshot({ path: join(folder, `${name}.png`) }).catch(() => {}) // the browser may have gone
}

function numbers(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index)
}
