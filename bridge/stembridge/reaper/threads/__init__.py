"""What each action sets going: steps that give orders and take what came of them. One module per action."""
