import { expect, it, onTestFinished } from 'vitest'
import WebSocket from 'ws'
import { WebsocketProvider } from 'y-websocket'
import { Doc } from 'yjs'
import { startExample } from '../helpers/example.js'
import { nextPlain } from '../helpers/plain.js'

it('documents of y-websocket go on in the next process: every edit reaches the other editor, and nobody is disconnected', async () => {
  const line = await startExample('web/yjs.js', { TSUNAGI_MOVE: 'ws', TSUNAGI_GRACE: '5' })
  const [ada, bob] = [await edit(line.port), await edit(line.port)]
  let expected = ''
  for (let generation = 1; generation <= 4; generation++) {
    for (const [editor, other] of [
      [ada, bob],
      [bob, ada],
    ] as const) {
      expected += `${generation} `
      editor.text.insert(editor.text.length, `${generation} `)
      await until(() => other.text.toString() === expected)
    }
    if (generation === 4) break
    await nextPlain(line)
    // The new process has the document of its clients, and gives it to whoever comes.
    const eve = await edit(line.port)
    await until(() => eve.text.toString() === expected)
    eve.provider.destroy()
  }
  expect([...ada.seen, ...bob.seen]).toEqual([])
}, 60_000)

async function edit(port: number) {
  const document = new Doc()
  const provider = new WebsocketProvider(`ws://127.0.0.1:${port}`, 'notes', document, {
    WebSocketPolyfill: WebSocket as never,
    disableBc: true,
  })
  onTestFinished(() => provider.destroy())
  const seen: string[] = []
  await new Promise<void>((resolve) => provider.once('sync', () => resolve()))
  provider.on('status', ({ status }: { status: string }) => seen.push(status))
  return { provider, text: document.getText('text'), seen }
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
}
