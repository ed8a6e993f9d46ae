"""What a setting flows through: from gunicorn's ``cfg`` to frozen values."""
