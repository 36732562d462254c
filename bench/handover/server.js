// An echo server that hands over; its reports go to whoever started it.
import { createServer } from 'tsunagi'

const server = createServer({ noDelay: true }, (socket) => socket.on('data', (bytes) => socket.write(bytes)))
for (const event of ['handover', 'resumed']) server.on(event, (report) => process.stdout.write(`${JSON.stringify(report)}\n`))
server.listen(Number(process.env.PORT), '127.0.0.1', () => process.stdout.write('"listening"\n'))
