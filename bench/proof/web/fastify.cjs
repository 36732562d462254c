// The same in Fastify with socket.io. It has never heard of tsunagi.
const { fastify } = require('fastify')
const { Server } = require('socket.io')

const app = fastify()
const streams = new Map()

app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
app.get('/', async () => String(process.pid))
app.get('/download', async (_request, reply) => reply.send(Buffer.alloc(300_000, 'x')))
app.post('/upload', { bodyLimit: 5_000_000 }, async ({ body }) => ({ length: body.length }))
app.get('/events', (request, reply) => {
  const { user } = request.query
  reply.hijack()
  reply.raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' })
  reply.raw.write(`event: welcome\ndata: ${user}\n\n`)
  streams.set(user, reply.raw)
  request.raw.on('close', () => streams.delete(user))
})
app.post('/say', async ({ query: { user, number } }) => {
  streams.get(user)?.write(`id: ${number}\ndata: ${number}\n\n`)
  return 'ok'
})

const io = new Server(app.server)
io.on('connection', (socket) => {
  socket.emit('welcome')
  socket.on('say', (message) => socket.emit('said', message))
})
app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' }).then(() => console.log(JSON.stringify({ serving: true })))
