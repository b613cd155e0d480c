"""What every command of this project does alike."""
