import adapter from '@sveltejs/adapter-static'

/** @type {import('@sveltejs/kit').Config} */
export default {
  compilerOptions: { runes: ({ filename }) => (filename.includes('node_modules') ? undefined : true) },
  kit: {
    // Every page is the same file: the app finds out by itself what to show. The server sends it for any path.
    adapter: adapter({ pages: 'build', fallback: 'index.html' }),
    alias: { $components: 'src/components' },
  },
}
