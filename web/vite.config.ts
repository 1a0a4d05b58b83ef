import { sveltekit } from '@sveltejs/kit/vite'
import tailwindcss from '@tailwindcss/vite'
import { defineConfig, loadEnv } from 'vite'

/** VITE_API_BASE_URL says where the API is; pages ask for it on their own origin, and this passes it on. */
export default defineConfig(({ mode }) => {
  const { VITE_API_BASE_URL = 'http://127.0.0.1:8000/api' } = { ...loadEnv(mode, import.meta.dirname), ...process.env }
  const { origin } = new URL(VITE_API_BASE_URL)
  const proxy = { '/api': { target: origin, ws: true }, '/downloads': { target: origin } }
  return {
    plugins: [tailwindcss(), sveltekit()],
    server: { port: 5173, strictPort: true, proxy },
    preview: { port: 4173, strictPort: true, proxy },
    build: { target: 'es2022' },
  }
})
