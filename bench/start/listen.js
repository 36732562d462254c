import net from 'node:net'

const server = net.createServer().listen(0, '127.0.0.1', () => server.close())
