type Theme = 'light' | 'dark'

class ThemeChoice {
  current = $state<Theme>(document.documentElement.dataset['theme'] === 'dark' ? 'dark' : 'light')

  toggle = () => {
    this.current = this.current === 'dark' ? 'light' : 'dark'
    document.documentElement.dataset['theme'] = this.current
    localStorage.setItem('orbyte.theme', this.current)
  }
}

export const theme = new ThemeChoice()
