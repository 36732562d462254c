/**
 * A chat for browsers and terminals, and a bulk echo, that go on while you start the next version of them: npm start, and npm start again elsewhere,
 * or the button on the page. Ports and the interface come from CHAT_PORT, BULK_PORT, STATUS_PORT and HOST.
 */
import { owned, ready } from 'tsunagi'
import { createBulk } from './bulk.js'
import { createChat } from './chat.js'
import { createRooms } from './rooms.js'
import { createStatus, lastHandover } from './status.js'
import { createWeb } from './web.js'

const host = process.env.HOST ?? '127.0.0.1'
const rooms = createRooms()
const chat = createChat(rooms)
const bulk = createBulk()
const web = createWeb(rooms, createStatus({ chat, bulk }))

const ports = {
  chat: listen(chat, 'CHAT_PORT', 7000),
  bulk: listen(bulk, 'BULK_PORT', 7001),
  web: listen(web, 'STATUS_PORT', 3000),
}

await Promise.all(Object.values(ports))
ready() // without it, ready is the end of this file, and that waits for owned()
await owned() // at once, or as soon as the process before this one has handed over
const generation = lastHandover()?.generation ?? 1
web.announce(generation)
console.log(`
process ${process.pid} serves, generation ${generation}

  chat    http://${host}:${await ports.web}/
          nc ${host} ${await ports.chat}         join, and say who you are in the first line
  bulk    nc -N ${host} ${await ports.bulk} <file >copy  gives back what it gets

reload: the button on the page, or start it again in another terminal: npm start
`)

/** The port, once the server listens on it. */
function listen(server, variable, usual) {
  const port = Number(process.env[variable] ?? usual)
  server.on('error', (error) => {
    const inUse = `${host}:${port} is in use, and not by an earlier start of this program. Choose another port: ${variable}=${port + 10} npm start`
    console.error(error.code === 'EADDRINUSE' ? inUse : error.message)
    process.exit(1)
  })
  return new Promise((resolve) => server.listen(port, host, () => resolve(server.address().port)))
}
