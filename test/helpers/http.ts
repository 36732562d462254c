import type { Client } from './client.js'

/** A request without a body. */
export function asking(path: string, ...headers: string[]): string {
  return [`GET ${path} HTTP/1.1`, 'Host: localhost', ...headers, '', ''].join('\r\n')
}

/** One request on a connection that stays open; its whole answer is `text`. */
export async function ask(client: Client, path: string, text: string | number): Promise<void> {
  client.send(asking(path))
  const { lines } = await head(client)
  await client.expect(String(text))
  if (lines[0] !== 'HTTP/1.1 200 OK') throw new Error(`the answer to ${path} is ${lines[0]}`)
}

/** The head of the next response. */
export async function head(client: Client) {
  const lines: string[] = []
  for (let line = await client.line(); line !== '\r'; line = await client.line()) lines.push(line.trim())
  const value = (name: string) => lines.find((line) => line.toLowerCase().startsWith(`${name}: `))?.slice(name.length + 2)
  return { lines, path: value('x-path'), pid: Number(value('x-pid')) }
}

/** The next chunk of a chunked body; '' for its end. */
export async function chunk(client: Client): Promise<string> {
  const size = Number.parseInt(await client.line(), 16)
  const bytes = await client.read(size)
  await client.expect('\r\n')
  return bytes.toString()
}

/** Chunks until they are this text together; throws where they differ. */
export async function body(client: Client, expected: string): Promise<void> {
  let text = ''
  while (text.length < expected.length) {
    const next = await chunk(client)
    text += next
    if (next === '' || !expected.startsWith(text))
      throw new Error(`the body goes on with ${JSON.stringify(text)}, not with ${JSON.stringify(expected)}`)
  }
}
