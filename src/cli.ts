import { main } from './cli/main.js'

process.exitCode = await main(process.argv.slice(2), { out: write(process.stdout), err: write(process.stderr) })

function write(stream: NodeJS.WriteStream): (text: string) => void {
  stream.on('error', () => {}) // `tsunagi status | head` has read enough
  return (text) => void stream.write(text)
}
