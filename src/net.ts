export * from 'node:net'
export { createServer, net as default } from './core.js'
