"""Models behind endpoints that speak OpenAI's protocol: questions, their pace, and answers."""
