import { register } from './core.js'

register()
